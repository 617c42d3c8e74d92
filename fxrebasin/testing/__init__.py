"""Check the rules of ops against what the ops compute."""

from .check import RuleCheck, check_rule

__all__ = ["RuleCheck", "check_rule"]
