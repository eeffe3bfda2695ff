"""Names the extra that installs a package which a command could not import."""

from __future__ import annotations

from typing import Final

from siftmoe.tools.installation.packages import remedy

#: Import name -> extra; empty for the base installation.
_EXTRAS: Final = {
    **dict.fromkeys(("numpy", "zmq", "msgpack", "msgspec", "tomli"), ""),
    **dict.fromkeys(
        (
            "torch",
            "transformers",
            "tokenizers",
            "safetensors",
            "accelerate",
            "onnx",
            "scipy",
            "numba",
            "rich",
            "matplotlib",
            "psutil",
        ),
        "coordinator",
    ),
    "adi": "pluto",
    "iio": "pluto",
    "asyncssh": "fleet",
    "prometheus_client": "metrics",
    "lm_eval": "eval",
    **dict.fromkeys(("fastapi", "uvicorn", "starlette", "pydantic"), "serve"),
    **dict.fromkeys(("dask", "distributed"), "cluster"),
}


def way_out(error: ImportError) -> str | None:
    """Return a sentence that names the missing package and what installs it.

    Parameters
    ----------
    error : ImportError

    Returns
    -------
    str or None
        None if the package is none of this product's: then it is an error of the program.
    """
    package = (error.name or "").partition(".")[0]
    if package == "onnxruntime":
        return (
            "the package onnxruntime is missing; pip install 'siftmoe[cpu]', or 'siftmoe[gpu]' "
            "where there is CUDA"
        )
    if package not in _EXTRAS:
        return None
    return f"the package {package} is missing; {remedy(_EXTRAS[package])}"
