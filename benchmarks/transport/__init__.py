"""What is a fine-tuning worth that was carried over to another base?"""
