"""Inside ``torch.compile``: backends that align what Dynamo captures, or run passes on it."""

from .backend import Backend, by_name
from .report import CompileReport, GraphReport

__all__ = ["Backend", "CompileReport", "GraphReport", "by_name"]
