"""Experts of the bundle on the user's device: computes sampled rows of helpers again."""

from __future__ import annotations

from collections import OrderedDict
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from siftmoe.models.errors import ModelError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from siftmoe.models.bundle.manifest import Manifest

    Float32Array = NDArray[np.float32]

#: Bytes of experts' files that are kept loaded, the last ones used. A larger expert is loaded for a
#: row and released after it, so that a large model takes the memory of one expert.
KEPT_BYTES: Final = 64 * 1024 * 1024


class BundleExperts:
    """Single experts on ONNX Runtime, loaded when a row needs them.

    A file is loaded only with the hash of the manifest, so that a damaged bundle accuses nobody.

    Parameters
    ----------
    manifest : Manifest
    kept_bytes : int
        Size of the files that are kept loaded.
    """

    def __init__(self, manifest: Manifest, *, kept_bytes: int = KEPT_BYTES) -> None:
        self._manifest = manifest
        self._kept_bytes = kept_bytes
        self._sessions: OrderedDict[tuple[int, int], Any] = OrderedDict()

    @classmethod
    def of(cls, manifest: Manifest) -> BundleExperts | None:
        """Return the experts of a bundle; None without ONNX Runtime or without their files."""
        there = find_spec("onnxruntime") is not None and manifest.expert_file(0, 0).path.exists()
        return cls(manifest) if there else None

    def __call__(
        self, layer: int, hidden: Float32Array, pairs: NDArray[np.int32], weights: Float32Array
    ) -> Float32Array:
        """Weighted sum over experts: hidden [n, d], pairs [m, 2], weights [m] -> [n, d].

        Raises
        ------
        BundleCorrupt
            If an expert's file is missing or damaged.
        ModelError
            If ONNX Runtime cannot load or run it, for lack of memory perhaps.
        """
        output = np.zeros(hidden.shape, np.float32)
        for expert in np.unique(pairs[:, 1]).tolist():
            mine = pairs[:, 1] == expert
            rows = pairs[mine, 0]
            computed = self._compute(layer, expert, hidden[rows])
            np.add.at(output, rows, weights[mine, None] * computed)
        return output

    def _compute(self, layer: int, expert: int, rows: Float32Array) -> Float32Array:
        try:
            session = self._session((layer, expert))
            name = session.get_inputs()[0].name
            (computed,) = session.run(None, {name: rows.astype(self._manifest.dtype)})
        except ModelError:
            raise
        except Exception as error:  # ONNX Runtime raises a class per status, no root
            raise ModelError(
                f"expert {expert} of layer {layer} cannot be computed on this machine: {error}"
            ) from error
        self._release()
        return np.asarray(computed, dtype=np.float32)

    def _session(self, key: tuple[int, int]) -> Any:
        if key not in self._sessions:
            import onnxruntime  # not needed where nothing is checked

            options = onnxruntime.SessionOptions()
            options.intra_op_num_threads = 1
            path = self._manifest.verify_file(self._manifest.expert_file(*key))
            self._release(beside=self._bytes(key))
            self._sessions[key] = onnxruntime.InferenceSession(
                str(path), options, providers=["CPUExecutionProvider"]
            )
        self._sessions.move_to_end(key)
        return self._sessions[key]

    def _release(self, beside: int = 0) -> None:
        """Release the experts used longest ago until those that are left may be kept."""
        total = beside + sum(map(self._bytes, self._sessions))
        while self._sessions and total > self._kept_bytes:
            key, _ = self._sessions.popitem(last=False)
            total -= self._bytes(key)

    def _bytes(self, key: tuple[int, int]) -> int:
        return self._manifest.expert_file(*key).num_bytes
