"""Models without the units that they do not need, and units in order: what each is worth."""
