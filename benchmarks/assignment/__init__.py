"""Linear assignment problems, beside other solvers."""
