"""Vectors that travel: rotated, quantised, packed in 2 to 16 bits an entry. Needs no torch."""
