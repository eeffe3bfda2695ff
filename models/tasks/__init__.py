"""Accuracy tasks: files, token sequences, scores. Needs no torch."""
