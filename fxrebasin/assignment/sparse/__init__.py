"""Solve large assignment problems on a few candidate entries, with a certificate for all."""
