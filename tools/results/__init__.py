"""What a run's folder holds, read back: figures of policies, soundings, widths."""
