"""Random networks, and whether the groups that are found in them hold."""
