"""How the cost of weight matching grows with a network: measured, fitted and extrapolated."""
