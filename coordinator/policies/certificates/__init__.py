"""Lower bounds on a batch's least energy, and how the gap to them is closed."""
