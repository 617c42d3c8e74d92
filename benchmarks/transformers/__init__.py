"""How well do transformers of different seeds merge, permuted, rotated, and learned?"""
