"""Emulated Plutos: the IIOD protocol in front of one simulated air."""
