"""How the shipped checkpoints and evaluation sets were made: docs/checkpoints.md."""
