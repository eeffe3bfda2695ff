"""Checks of this machine: Python, packages, libraries, disk."""

from __future__ import annotations

import ctypes.util
import importlib.metadata
import os
import platform
import shutil
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

from siftmoe.tools.installation.packages import OPTIONAL, PACKAGES, remedy

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass(frozen=True, slots=True)
class Check:
    """A finding: what was checked, what was found, and the remedy if it is missing."""

    name: str
    found: str
    ok: bool
    needed: bool
    remedy: str = ""


def checks() -> Iterator[Check]:
    """Yield every finding; what others depend on comes first."""
    version = platform.python_version()
    yield Check("python", version, sys.version_info >= (3, 10), True, "install Python 3.10 to 3.12")
    for name, extra in PACKAGES.items():
        yield _package(name, extra, needed=True)
    yield _onnxruntime()
    for name, extra in OPTIONAL.items():
        yield _package(name, extra, needed=False)
    yield _libiio()
    yield _machine()


def _package(name: str, extra: str, *, needed: bool) -> Check:
    try:
        return Check(name, importlib.metadata.version(name), True, needed)
    except importlib.metadata.PackageNotFoundError:
        return Check(name, "not installed", False, needed, remedy(extra))


def _onnxruntime() -> Check:
    for name in ("onnxruntime-gpu", "onnxruntime"):
        try:
            version = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
        # The list of providers is fixed when the wheel is built; whether one works here is known
        # only after an agent has computed the golden output with it.
        return Check(name, f"{version} (providers are proven when an agent starts)", True, True)
    way = "pip install 'siftmoe[cpu]', or 'siftmoe[gpu]' where there is CUDA"
    return Check("onnxruntime", "not installed", False, True, way)


def _libiio() -> Check:
    found = ctypes.util.find_library("iio")
    way = "for a Pluto: apt-get install libiio0 libiio-utils"
    return Check("libiio", found or "not installed", found is not None, False, way)


def _machine() -> Check:
    free_gb = shutil.disk_usage(".").free / 1e9
    found = f"{os.cpu_count()} cores, {free_gb:.0f} GB free on this disk"
    return Check("machine", found, free_gb > 1.0, True, "free at least 1 GB of disk")
