"""Solve assignment problems by tensor operations, and by kernels where Triton compiles them."""
