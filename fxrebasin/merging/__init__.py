"""What is made of aligned models: the ways between them, and what is found there."""
