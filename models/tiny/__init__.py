"""Small trained checkpoints that ship with the package, and the evaluation sets beside them."""
