"""What each op does to layouts."""
