"""What is compared when models are aligned: one function per objective."""
