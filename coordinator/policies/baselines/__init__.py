"""Rivals of siftmoe: skipping only, gate prices, DES, widths by the channel."""
