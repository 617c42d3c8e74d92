"""Processes, models and tables that the benchmarks share."""
