"""Does a permuted module compute what the original does, and is a symmetry group right?"""
