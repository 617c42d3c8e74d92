"""Modules of torch as they are given: checked, copied, run, emitted."""
