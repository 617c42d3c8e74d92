"""Pictures of plain data: blocks as an architecture, metrics as curves."""
