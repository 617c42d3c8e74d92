"""One representative of all weights that a symmetry says are the same, up to rotations."""
