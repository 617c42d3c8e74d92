"""Unit ids in the place of numbers: what a tensor is made of, and what follows where two meet."""
