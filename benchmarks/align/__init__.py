"""Other ways to align two networks, as the benchmarks run them."""
