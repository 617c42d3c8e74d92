"""Models made smaller, or put in order, where their symmetry group gives that for free."""
