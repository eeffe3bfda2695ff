"""Identifies Plutos without changing them: no setting is written, a transmission continues.

    python -m siftmoe.radio.pluto.look [--timeout-s S] [URI]

prints one JSON object: identity and ranges of the radio at a URI, or without a URI the radios on
USB. It runs in a child process, as a driver does, since libiio can hang and crash.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final

import msgspec

from siftmoe.radio.errors import DeviceBusy, DeviceNotFound, RadioError
from siftmoe.radio.pluto.address import Address
from siftmoe.radio.pluto.library import DEFAULT_TIMEOUT_S, look_at, scan_usb
from siftmoe.radio.pluto.values import PlutoInfo

if TYPE_CHECKING:
    from collections.abc import Sequence

#: Time limit for starting Python and reading a few attributes.
_LIMIT_S: Final = 20.0


def look(uri: str, *, timeout_s: float = DEFAULT_TIMEOUT_S) -> PlutoInfo:
    """Read identity and ranges of the Pluto at an address.

    Raises
    ------
    ValueError
        If the URI is not valid.
    DeviceNotFound
        If no Pluto answers; DeviceBusy if another program holds it.
    RadioError
        If libiio or its bindings are missing.
    """
    answer = _ask([Address.parse(uri).uri, "--timeout-s", str(timeout_s)], what=uri)
    return msgspec.convert(answer, PlutoInfo)


def scan() -> dict[str, str]:
    """URIs and descriptions of the Plutos on USB.

    Raises
    ------
    RadioError
        If libiio is missing or the scan fails.
    """
    return msgspec.convert(_ask([], what="usb"), dict[str, str])


def main(argv: Sequence[str] | None = None) -> int:
    """Print the radio that was found, or the reason why none was."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("uri", nargs="?")
    parser.add_argument("--timeout-s", type=float, default=DEFAULT_TIMEOUT_S)
    args = parser.parse_args(argv)
    found: dict[str, Any]
    try:
        if args.uri is None:
            found = dict(scan_usb())
        else:
            found = asdict(look_at(Address.parse(args.uri), timeout_s=args.timeout_s))
        print(json.dumps({"found": found}))  # noqa: T201  the answer
    except DeviceBusy as error:
        print(json.dumps({"busy": str(error)}))  # noqa: T201
    except DeviceNotFound as error:
        print(json.dumps({"absent": str(error)}))  # noqa: T201
    except (RadioError, OSError) as error:
        print(json.dumps({"error": str(error)}))  # noqa: T201
    return 0


def _ask(arguments: list[str], *, what: str) -> Any:
    command = [sys.executable, "-m", "siftmoe.radio.pluto.look", *arguments]
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, timeout=_LIMIT_S, check=False
        )
    except subprocess.TimeoutExpired:
        raise DeviceNotFound(f"radio {what!r}: libiio hung for {_LIMIT_S:g} s") from None
    lines = done.stdout.splitlines()
    if done.returncode != 0 or not lines:
        last = done.stderr.decode(errors="replace").strip()[-400:]
        raise RadioError(f"radio {what!r}: libiio failed ({done.returncode}): {last}")
    answer = json.loads(lines[-1])
    if "busy" in answer:
        raise DeviceBusy(answer["busy"])
    if "absent" in answer:
        raise DeviceNotFound(answer["absent"])
    if "error" in answer:
        raise RadioError(answer["error"])
    return answer["found"]


if __name__ == "__main__":
    sys.exit(main())
