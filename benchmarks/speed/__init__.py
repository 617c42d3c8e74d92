"""How long the analysis takes, beside forward passes."""
