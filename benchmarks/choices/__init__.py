"""What the choices of weight matching are worth, on trained networks."""
