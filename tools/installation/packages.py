"""Distributions that the product uses, by the extra of siftmoe that installs them."""

from __future__ import annotations

#: Distributions of the main job -> extra; empty for the base installation.
PACKAGES = {
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

#: Distributions that only some commands need -> extra.
OPTIONAL = {
    "pyadi-iio": "pluto",
    "asyncssh": "fleet",
    "prometheus-client": "metrics",
    "fastapi": "serve",
    "distributed": "cluster",
}


def remedy(extra: str) -> str:
    """Return the command that installs an extra, or siftmoe itself."""
    target = f"siftmoe[{extra}]" if extra else "siftmoe"
    return f"pip install '{target}'"
