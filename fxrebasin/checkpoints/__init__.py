"""State dicts in files: read without running code, held against a model, written as they were."""
