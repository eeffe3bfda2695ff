"""Subcommands of ``siftmoe radio``.

Each module declares its options, calls `siftmoe.tools.radios` or `siftmoe.radio`, and prints the
result.

- `group`: ``siftmoe radio`` itself
- `probe`, `sound`, `link`, `calibrate`, `emulate`: one action each
"""
