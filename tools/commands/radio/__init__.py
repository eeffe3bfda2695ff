"""Subcommands of ``siftmoe radio``: probe, sound, calibrate, emulate."""
