"""Statistics of activations that fit the weights beside them."""
