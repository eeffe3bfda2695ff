"""One quantised weight: the plain tensor that it stands for, its parts on disk, its decoding."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from siftmoe.models.errors import CheckpointMismatch, UnsupportedPrecision

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from torch import Tensor

    from siftmoe.models.checkpoint.files import ReadTensor
    from siftmoe.models.checkpoint.headers import TensorHeader
    from siftmoe.models.checkpoint.quantised.hints import Hints

#: Numbers decoded at a time. Bounds what decoding needs beside its result to some 20 MB.
CHUNK_NUMBERS = 1 << 20

#: Precisions in which scales are stored as numbers.
FLOATS = frozenset({"F64", "F32", "F16", "BF16"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """What a format sees when it decides whether a tensor is its own.

    Parameters
    ----------
    headers : dict of str to TensorHeader
        Of every tensor on disk.
    hints : Hints
    read : callable
        Reads a small part, such as a stored shape.
    transposed : bool
        Whether the model's fused experts are [E, in, out]; decides which axis of a square matrix
        has the channels.
    """

    headers: dict[str, TensorHeader]
    hints: Hints
    read: ReadTensor
    transposed: bool = False

    def one_of(self, names: Iterable[str]) -> str | None:
        """Return the one tensor that exists of several possible names, None if none does.

        Raises
        ------
        UnsupportedPrecision
            If more than one exists.
        """
        found = [name for name in dict.fromkeys(names) if name in self.headers]
        if len(found) > 1:
            raise UnsupportedPrecision(
                f"tensors {found[0]!r} and {found[1]!r} both scale one weight; siftmoe knows no "
                f"format with both: take another release of the model"
            )
        return found[0] if found else None

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape of a tensor on disk."""
        return self.headers[name].shape

    def dtype(self, name: str) -> str:
        """Precision of a tensor on disk, as safetensors names it."""
        return self.headers[name].dtype


@dataclass(frozen=True, slots=True, kw_only=True)
class QuantisedWeight(ABC):
    """A weight of two axes, or of three with the experts first, stored quantised.

    Parameters
    ----------
    name : str
        Of the plain weight, as an unquantised release has it.
    shape : tuple of int
        Of the plain weight.
    parts : tuple of str
        The tensors on disk that make it.
    """

    name: str
    shape: tuple[int, ...]
    parts: tuple[str, ...]

    @abstractmethod
    def matrix(self, read: ReadTensor, expert: int | None) -> Tensor:
        """Decode one matrix; ``expert`` is its index on the first axis of three, else None."""

    def decode(self, read: ReadTensor, expert: int | None = None) -> Tensor:
        """Decode the weight, or with ``expert`` its slice [expert : expert + 1].

        Returns
        -------
        Tensor of float32
            May be a transposed view.

        Raises
        ------
        CheckpointMismatch
            If a decoded value is not finite.
        """
        if len(self.shape) == 2:
            return self._checked(self.matrix(read, None))
        which = range(self.shape[0]) if expert is None else (expert,)
        matrices = [self._checked(self.matrix(read, each)) for each in which]
        return matrices[0][None] if len(matrices) == 1 else torch.stack(matrices)

    def _checked(self, decoded: Tensor) -> Tensor:
        step = _rows_of(decoded.shape[1])
        rows = (decoded[first : first + step] for first in range(0, len(decoded), step))
        if not all(part.isfinite().all() for part in rows):
            raise CheckpointMismatch(
                f"weight {self.name!r} has values that are not finite, decoded from "
                f"{', '.join(self.parts)}; download or copy the checkpoint again"
            )
        return decoded


def decode_rows(
    shape: tuple[int, int], decode: Callable[[int, int], Tensor], *, multiple: int = 1
) -> Tensor:
    """Fill a float32 matrix from ``decode(first, last)``, some rows at a time.

    Parameters
    ----------
    shape : (R, C)
    decode : callable
        Gives rows [first, last) as (last - first, C) Tensor.
    multiple : int
        Of which ``first`` is one.
    """
    out = torch.empty(shape, dtype=torch.float32)
    step = -(-_rows_of(shape[1]) // multiple) * multiple
    for first in range(0, shape[0], step):
        last = min(first + step, shape[0])
        out[first:last] = decode(first, last)
    return out


def unfit(name: str, part: str, shape: tuple[int, ...], *, why: str) -> UnsupportedPrecision:
    """Make the error for a part whose shape or precision does not fit its weight."""
    return UnsupportedPrecision(
        f"quantised weight {name!r}: {part!r} of shape {list(shape)} {why}; siftmoe does not read "
        f"this form, take another release of the model"
    )


def _rows_of(width: int) -> int:
    return max(1, CHUNK_NUMBERS // max(width, 1))
