"""Serve emulated Plutos on loopback addresses, for pyadi-iio, iio_info, iio_attr and the like.

The devices share one simulated air that runs in real time. Without --config every pair of devices
has the same static path; with --config a file describes the devices and their links
(docs/reference/emulator.md). Ctrl-C stops the emulator.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from siftmoe.radio.emulator.config import AirConfig
    from siftmoe.radio.emulator.serve import Ready

SUMMARY = "serve emulated Plutos on this machine"

_PORT = 30431
_GAIN_DB = -70.0


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add = parser.add_argument
    air = parser.add_mutually_exclusive_group()
    air.add_argument("--devices", type=int, default=2, metavar="N", help="how many (2)")
    air.add_argument("--config", type=Path, metavar="FILE", help="TOML file that describes the air")
    add("--gain", type=float, metavar="DB", help=f"of every link, without --config ({_GAIN_DB:g})")
    add("--port", type=_port, default=_PORT, help=f"of every device; 0: free ones ({_PORT})")
    add("--control-port", type=_port, default=0, metavar="PORT", help="of the control socket (0)")
    add("--json", action="store_true", help="print what was started as one JSON object")
    parser.epilog = "example: siftmoe radio emulate --devices 3"


def run(args: argparse.Namespace) -> int:
    """Serve until interrupted."""
    from siftmoe.radio.emulator.serve import serve

    if args.config is not None and args.gain is not None:
        raise ValueError("--gain goes without --config; set gain_db in the file's [[link]]")
    serve(
        _air(args),
        port=args.port,
        control_port=args.control_port,
        announce=_print_json if args.json else _print_text,
    )
    return 0


def _air(args: argparse.Namespace) -> AirConfig:
    from siftmoe.radio.emulator.config import default_air, load_air

    if args.config is not None:
        return load_air(args.config)
    return default_air(args.devices, gain_db=_GAIN_DB if args.gain is None else args.gain)


def _print_json(ready: Ready) -> None:
    fields = {
        "names": ready.names,
        "uris": ready.uris,
        "serials": ready.serials,
        "control_port": ready.control_port,
    }
    print(json.dumps(fields), flush=True)


def _print_text(ready: Ready) -> None:
    width = max(len(uri) for uri in ready.uris)
    for name, uri, serial in zip(ready.names, ready.uris, ready.serials, strict=True):
        print(f"{uri:{width}}  {name}  serial {serial}")
    print(f"control: 127.0.0.1:{ready.control_port}; Ctrl-C stops", flush=True)


def _port(text: str) -> int:
    value = int(text)
    if not 0 <= value <= 65535:
        raise argparse.ArgumentTypeError(f"must lie in 0..65535, got {text}")
    return value
