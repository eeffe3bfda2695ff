"""Small trained checkpoints that ship with the package."""
