"""Alignments that are learned from data, and alignments that are chosen by it."""
