"""Writes an ONNX model to a file weight by weight.

A protobuf message in memory holds every weight, and building and serialising it hold copies. Here
the message is written as its parts, of which one weight at a time is in memory. The bytes are those
of the deterministic serialisation of protobuf.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from onnx import GraphProto, ModelProto, OperatorSetIdProto, TensorProto, helper

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    Weight = tuple[str, NDArray[np.generic]]

# Numbers of the fields in onnx.proto that are written here instead of by protobuf.
_MODEL_GRAPH = 7
_GRAPH_INITIALIZER = 5
_TENSOR_RAW_DATA = 9
_LENGTH_DELIMITED = 2


class OnnxFile:
    """A model whose weights are converted to their precision when they are written.

    Parameters
    ----------
    model : ModelProto
        Without weights, and with one operator set.
    weights : sequence of (str, array)
        Names and values, in order.
    dtype : numpy dtype
        Of the weights in the file.
    """

    def __init__(
        self, model: ModelProto, weights: Sequence[Weight], *, dtype: np.dtype[np.generic]
    ) -> None:
        self._model = model
        self._weights = weights
        self._dtype = dtype

    def write(self, path: Path) -> None:
        """Write the file."""
        with path.open("wb") as stream:
            for part in self._parts():
                stream.write(part)

    def proto(self) -> ModelProto:
        """Return the whole model in memory."""
        return ModelProto.FromString(b"".join(bytes(part) for part in self._parts()))

    def _parts(self) -> Iterator[bytes | memoryview]:
        graph = self._model.graph
        front = GraphProto(node=graph.node, name=graph.name).SerializeToString(deterministic=True)
        back = GraphProto(input=graph.input, output=graph.output)
        last = back.SerializeToString(deterministic=True)
        heads = [self._tensor_head(name, array) for name, array in self._weights]
        size = len(front) + len(last)
        size += sum(
            len(head) + array.size * self._dtype.itemsize
            for head, (_, array) in zip(heads, self._weights, strict=True)
        )
        model = ModelProto(
            ir_version=self._model.ir_version, producer_name=self._model.producer_name
        )
        yield model.SerializeToString(deterministic=True)
        yield _key(_MODEL_GRAPH) + _varint(size) + front
        for head, (_, array) in zip(heads, self._weights, strict=True):
            yield head
            yield np.ascontiguousarray(array, dtype=self._dtype).reshape(-1).view(np.uint8).data
        yield last + _opset(self._model.opset_import[0])

    def _tensor_head(self, name: str, array: NDArray[np.generic]) -> bytes:
        """Everything of a weight in the graph but its numbers."""
        tensor: bytes = TensorProto(
            dims=array.shape, data_type=helper.np_dtype_to_tensor_dtype(self._dtype), name=name
        ).SerializeToString(deterministic=True)
        length = array.size * self._dtype.itemsize
        tensor += _key(_TENSOR_RAW_DATA) + _varint(length)
        return _key(_GRAPH_INITIALIZER) + _varint(len(tensor) + length) + tensor


def _opset(opset: OperatorSetIdProto) -> bytes:
    encoded: bytes = ModelProto(opset_import=[opset]).SerializeToString(deterministic=True)
    return encoded


def _key(field: int) -> bytes:
    return _varint(field << 3 | _LENGTH_DELIMITED)


def _varint(number: int) -> bytes:
    """Encode a number in groups of seven bits, lowest first."""
    out = bytearray()
    while number >= 0x80:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)
