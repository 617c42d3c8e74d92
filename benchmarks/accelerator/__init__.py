"""Alignment and assignment on an accelerator beside the processor."""
