"""Search the symmetry group for the permutation that maximises a sum of inner products."""
