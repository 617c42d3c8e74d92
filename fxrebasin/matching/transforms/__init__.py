"""Search the whole group of every block: permutations, signs and rotations."""
