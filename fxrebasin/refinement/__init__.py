"""From what propagation found to blocks of units that may be permuted freely."""
