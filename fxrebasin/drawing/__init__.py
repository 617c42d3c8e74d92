"""Symmetry groups for the eye: the graph of blocks, its drawing, and a report as a page."""
