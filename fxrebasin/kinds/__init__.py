"""Which linear groups act on blocks beside their permutations, found from what ops have done."""
