"""What is made of aligned models: the straight line between them."""
