"""ONNX Runtime's execution providers: opening a session on one, and proving its results.

``onnxruntime.get_available_providers()`` lists what the wheel was compiled with and says nothing
about the machine: a wheel for servers can be installed on a Jetson and has no kernel for its GPU,
and a wheel without its CUDA libraries falls back to the CPU after writing warnings to stderr. So a
session is opened with exactly one provider, must report that provider, and must compute the
golden output.
"""

from __future__ import annotations

import contextlib
import os
import re
import sys
import tempfile
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from siftmoe.agent.errors import ConfigError, OutOfMemory, ProviderUnavailable

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    FloatArray = NDArray[np.floating[Any]]

#: Names in settings -> ONNX Runtime's names, in the order in which they are tried.
PROVIDERS: Final[dict[str, str]] = {
    "tensorrt": "TensorrtExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "cpu": "CPUExecutionProvider",
}

#: TF32 keeps 10 bits of a mantissa; a float32 expert is computed in float32.
_OPTIONS: Final[dict[str, dict[str, str]]] = {"CUDAExecutionProvider": {"use_tf32": "0"}}

#: Largest error of a golden output, relative to its largest element. Exported experts agree with
#: torch to 1e-5; another order of summation costs another digit, float16 keeps three digits, and
#: the error of a wrong kernel is as large as the value.
TOLERANCE: Final[dict[str, float]] = {"float32": 1e-4, "float16": 1e-2}

_FATAL_ONLY, _ERRORS = 4, 3
_CAUSE = re.compile(r"with error: (.+)")
_NOISE = re.compile(r"\x1b\[[0-9;]*m")
_MEMORY = re.compile(r"bad_alloc|out of memory|failed to allocate|BFCArena", re.IGNORECASE)


def provider_order(names: str) -> tuple[str, ...]:
    """Turn "auto" or a list such as "cuda,cpu" into names of :data:`PROVIDERS`.

    Raises
    ------
    ConfigError
        If a name is not known or the list is empty.
    """
    if names == "auto":
        return tuple(PROVIDERS)
    order = tuple(dict.fromkeys(name.strip().lower() for name in names.split(",")))
    for name in order:
        if name not in PROVIDERS:
            known = ", ".join(PROVIDERS)
            raise ConfigError(f"provider {name!r} is not known; use auto or some of: {known}")
    return order


def open_session(path: Path, *, provider: str, threads: int) -> Any:
    """Open an ONNX file with one provider, which must run every operator of it.

    Parameters
    ----------
    path : Path
    provider : str
        A name of :data:`PROVIDERS`.
    threads : int
        Threads inside one operator.

    Returns
    -------
    onnxruntime.InferenceSession

    Raises
    ------
    ProviderUnavailable
        If the provider is not in this build, cannot be loaded, or leaves operators to another one.
    OutOfMemory
        If the file's weights do not fit into memory.
    ConfigError
        If ONNX Runtime is not installed.
    """
    said: list[str] = []
    with _stderr_captured(said):
        session, problem = _try_open(path, PROVIDERS[provider], threads)
    if session is None:
        raise _unavailable(provider, said, problem)
    return session


def load_onnxruntime() -> Any:
    """Import ONNX Runtime.

    Raises
    ------
    ConfigError
        If it is not installed, or its native library cannot be loaded.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise ConfigError(
            f"experts are computed by ONNX Runtime, which cannot be imported ({error}): "
            f"pip install 'siftmoe[cpu]', or 'siftmoe[gpu]' where there is CUDA"
        ) from error
    return onnxruntime


def _try_open(path: Path, name: str, threads: int) -> tuple[Any | None, str]:
    onnxruntime = load_onnxruntime()
    if name not in onnxruntime.get_available_providers():
        return None, f"not in this build of onnxruntime {onnxruntime.__version__}"
    onnxruntime.set_default_logger_severity(_ERRORS)
    try:
        session = onnxruntime.InferenceSession(
            os.fspath(path),
            _session_options(onnxruntime, name, threads),
            providers=[(name, _OPTIONS.get(name, {}))],
            enable_fallback=0,
        )
    except Exception as error:  # noqa: BLE001  ONNX Runtime raises a class per status, no root
        return None, f"{type(error).__name__}: {error}"
    finally:
        onnxruntime.set_default_logger_severity(_FATAL_ONLY)
    taken = session.get_providers()
    if not taken or taken[0] != name:
        return None, f"onnxruntime took {', '.join(taken)} instead"
    return session, ""


def _session_options(onnxruntime: Any, name: str, threads: int) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = _FATAL_ONLY
    # Several agents may share a machine: a pool that spins while idle would take their cores.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # An arena would keep the memory of the largest batch for each expert.
    options.enable_cpu_mem_arena = False
    options.enable_mem_pattern = False
    if name != PROVIDERS["cpu"]:
        options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    return options


def _unavailable(provider: str, said: list[str], problem: str) -> Exception:
    if _MEMORY.search(problem):
        return OutOfMemory(f"{provider}: {problem}; host fewer experts")
    text = _NOISE.sub("", "".join(said))
    cause = _CAUSE.search(text) or _CAUSE.search(problem)
    return ProviderUnavailable(cause[1].strip() if cause else problem.strip())


def prove(session: Any, *, golden_input: FloatArray, golden_output: FloatArray, dtype: str) -> None:
    """Run a session on its golden input and compare with its golden output.

    Raises
    ------
    ProviderUnavailable
        If the run fails, or its result is not finite or differs by more than :data:`TOLERANCE`.
    """
    try:
        (result,) = session.run(["output"], {"hidden": golden_input.astype(dtype)})
    except Exception as error:
        message = f"cannot run the golden input: {error}"
        raise ProviderUnavailable(message) from error
    if result.shape != golden_output.shape:
        raise ProviderUnavailable(
            f"golden output has shape {result.shape}, the bundle says {golden_output.shape}"
        )
    scale = float(np.abs(golden_output).max()) or 1.0
    error_seen = float(np.abs(result.astype(np.float32) - golden_output).max()) / scale
    if not error_seen <= TOLERANCE[dtype]:  # NaN is refused too
        raise ProviderUnavailable(
            f"golden output is off by {error_seen:.1e} of its largest element, "
            f"at most {TOLERANCE[dtype]:.0e} for {dtype}"
        )


@contextlib.contextmanager
def _stderr_captured(said: list[str]) -> Iterator[None]:
    """Collect what ONNX Runtime's C++ code writes to stderr, instead of showing it."""
    sys.stderr.flush()
    saved = os.dup(2)
    with tempfile.TemporaryFile() as sink:
        os.dup2(sink.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(saved, 2)
            os.close(saved)
            sink.seek(0)
            said.append(sink.read().decode("utf-8", "replace"))
