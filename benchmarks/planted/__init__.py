"""Hidden permutations, found again."""
