"""What merged models are worth, on trained networks."""
