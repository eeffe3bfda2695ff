"""Runs emulated Plutos for a parent process.

The first line of standard input is an air as JSON; the only line of standard output lists the
started devices. The process ends with its standard input. The command for users is
``siftmoe radio emulate``.
"""

from __future__ import annotations

import logging
import sys

import msgspec

from siftmoe.radio.emulator.config import AirConfig
from siftmoe.radio.emulator.serve import Ready, serve


def main() -> None:
    """Read the air from standard input and serve it until the input ends."""
    logging.basicConfig(level=logging.WARNING, format="%(name)s %(levelname)s %(message)s")
    config = msgspec.json.decode(sys.stdin.buffer.readline(), type=AirConfig)
    port = int(sys.argv[1]) if len(sys.argv) > 1 else 0
    serve(config, port=port, announce=_announce, until_eof=True)


def _announce(ready: Ready) -> None:
    sys.stdout.buffer.write(msgspec.json.encode(ready) + b"\n")
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
