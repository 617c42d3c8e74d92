"""Measurements of fxrebasin; each writes a table that is committed beside it.

Run them from the root of the repository: ``python -m benchmarks.coverage --help``.
"""
