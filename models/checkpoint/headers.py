"""Reads precision and shape of every tensor of a checkpoint, but no weights. Needs no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from siftmoe.models.checkpoint.files import CheckpointFiles


@dataclass(frozen=True, slots=True)
class TensorHeader:
    """Precision and shape of a tensor on disk.

    Parameters
    ----------
    dtype : str
        As safetensors names it: "F32", "BF16", "F8_E4M3".
    shape : tuple of int
    """

    dtype: str
    shape: tuple[int, ...]


def read_headers(files: CheckpointFiles) -> dict[str, TensorHeader]:
    """Read the header of every tensor, by its name on disk."""
    from safetensors import safe_open

    names_in: dict[Path, list[str]] = {}
    for name, path in files.tensors.items():
        names_in.setdefault(path, []).append(name)
    headers: dict[str, TensorHeader] = {}
    for path, names in names_in.items():
        with safe_open(path, framework="numpy") as file:
            for name in names:
                tensor = file.get_slice(name)
                headers[name] = TensorHeader(tensor.get_dtype(), tuple(tensor.get_shape()))
    return headers
