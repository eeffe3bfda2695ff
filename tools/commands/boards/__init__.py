"""Subcommands for boards.

Each module declares its options, calls `siftmoe.tools.flashing` or `siftmoe.tools.watching`, and
prints the result.

- `keys`, `flash`, `status`, `rollback`, `logs`, `unflash`: one subcommand each
- `action`: what `rollback` and `unflash` share
"""
