"""Tell what is missing on this machine and how to get it.

Exit status 0 when the main job can run here, 1 when something that it needs is missing.
"""

from __future__ import annotations

import ctypes.util
import importlib.metadata
import json
import os
import platform
import shutil
import sys
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

SUMMARY = "tell what is missing on this machine and how to get it"

#: Distribution -> the extra of siftmoe that brings it.
_PACKAGES = {
    "numpy": "",
    "pyzmq": "",
    "msgpack": "",
    "msgspec": "",
    "torch": "coordinator",
    "transformers": "coordinator",
    "onnx": "coordinator",
    "numba": "coordinator",
    "matplotlib": "coordinator",
}
_OPTIONAL = {"pyadi-iio": "pluto", "asyncssh": "fleet", "prometheus-client": "metrics"}


@dataclass(frozen=True, slots=True)
class Check:
    """One finding: what was looked at, what was found, and the way out where it is missing."""

    name: str
    found: str
    ok: bool
    needed: bool
    remedy: str = ""


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--json", action="store_true", help="one JSON object per finding")
    parser.epilog = "example: siftmoe doctor --json"


def run(args: argparse.Namespace) -> int:
    """Look at the machine and print the findings."""
    findings = list(checks())
    for check in findings:
        if args.json:
            print(json.dumps(asdict(check)))
        else:
            mark = "ok " if check.ok else ("MISSING" if check.needed else "absent")
            print(f"{mark:8}{check.name:24}{check.found}")
            if not check.ok:
                print(f"{'':8}{'':24}-> {check.remedy}")
    return int(any(check.needed and not check.ok for check in findings))


def checks() -> Iterator[Check]:
    """Every finding, in the order of what depends on what."""
    version = platform.python_version()
    yield Check("python", version, sys.version_info >= (3, 10), True, "install Python 3.10 to 3.12")
    for name, extra in _PACKAGES.items():
        yield _package(name, extra, needed=True)
    yield _onnxruntime()
    for name, extra in _OPTIONAL.items():
        yield _package(name, extra, needed=False)
    yield _libiio()
    yield _machine()


def _package(name: str, extra: str, *, needed: bool) -> Check:
    target = f"siftmoe[{extra}]" if extra else "siftmoe"
    try:
        return Check(name, importlib.metadata.version(name), True, needed)
    except importlib.metadata.PackageNotFoundError:
        return Check(name, "not installed", False, needed, f"pip install '{target}'")


def _onnxruntime() -> Check:
    for name in ("onnxruntime-gpu", "onnxruntime"):
        try:
            version = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
        # The list of providers is fixed when the wheel is built; only an agent's golden input
        # proves that one works here.
        return Check(name, f"{version} (providers are proven when an agent starts)", True, True)
    remedy = "pip install 'siftmoe[cpu]', or 'siftmoe[gpu]' where there is CUDA"
    return Check("onnxruntime", "not installed", False, True, remedy)


def _libiio() -> Check:
    found = ctypes.util.find_library("iio")
    remedy = "for a Pluto: apt-get install libiio0 libiio-utils"
    return Check("libiio", found or "not installed", found is not None, False, remedy)


def _machine() -> Check:
    free_gb = shutil.disk_usage(".").free / 1e9
    found = f"{os.cpu_count()} cores, {free_gb:.0f} GB free on this disk"
    return Check("machine", found, free_gb > 1.0, True, "free at least 1 GB of disk")
