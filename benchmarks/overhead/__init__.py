"""What the backend adds to a call of what its inner backend compiled."""
