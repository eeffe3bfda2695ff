"""Subcommands for boards: keys, flash, status, rollback, logs, unflash."""
