"""Bundles of random experts, written without torch; what an agent needs and nothing else.

The golden outputs come from numpy in float64, so an agent's proof compares two implementations.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from siftmoe.models.bundle import manifest
from siftmoe.models.bundle.export import build_expert
from siftmoe.models.shape import ModelShape

if TYPE_CHECKING:
    from pathlib import Path

GOLDEN_ROWS = 4
SILU = SimpleNamespace(function="swish", gated=True, alpha=1.0, limit=float("inf"), shift=0.0)


def shape_of(*, num_layers=2, num_experts=3, hidden_size=16, intermediate_size=24):
    return ModelShape(
        num_layers=num_layers,
        num_experts=num_experts,
        top_k=1,
        hidden_size=hidden_size,
        intermediate_size=intermediate_size,
        activation="silu",
    )


def weights_of(shape, layer, expert):
    """Weights of one expert, always the same: projections [out, in] float32."""
    rng = np.random.default_rng((shape.hidden_size, layer, expert))
    d, inner = shape.hidden_size, shape.intermediate_size

    def draw(rows, columns):
        return (rng.standard_normal((rows, columns)) / np.sqrt(columns)).astype(np.float32)

    return draw(inner, d), draw(inner, d), draw(d, inner)  # gate, up, down


def reference(shape, layer, expert, hidden):
    """What an expert computes for hidden [n, d], in float64."""
    gate, up, down = (w.astype(np.float64) for w in weights_of(shape, layer, expert))
    g = hidden @ gate.T
    return (g / (1.0 + np.exp(-g)) * (hidden @ up.T)) @ down.T  # [n, d]


def write_bundle(root: Path, shape=None, *, dtype="float32", golden_error=0.0) -> Path:
    """Write a bundle; ``golden_error`` makes its golden outputs wrong by that share."""
    shape = shape or shape_of()
    (root / "experts").mkdir(parents=True)
    (root / "golden").mkdir()
    files = {}

    def record(name):
        path = root / name
        files[name] = manifest.FileRecord(
            sha256=manifest.file_sha256(path), num_bytes=path.stat().st_size
        )

    for layer in range(shape.num_layers):
        hidden = np.random.default_rng(layer).standard_normal((GOLDEN_ROWS, shape.hidden_size))
        outputs = []
        for expert in range(shape.num_experts):
            gate, up, down = weights_of(shape, layer, expert)
            plain = SimpleNamespace(gate=gate, up=up, down=down, activation=SILU)
            plain.gate_bias = plain.up_bias = plain.down_bias = None
            name = manifest.expert_name(layer, expert)
            build_expert(plain, dtype).write(root / name)
            record(name)
            outputs.append(reference(shape, layer, expert, hidden) * (1.0 + golden_error))
        name = manifest.golden_name(layer)
        np.savez(root / name, input=hidden.astype(np.float32), output=np.array(outputs, np.float32))
        record(name)
    _write_manifest(root, shape, dtype, files)
    return root


def _write_manifest(root, shape, dtype, files):
    document = manifest.Document(
        format=manifest.FORMAT,
        source=manifest.Source(
            name="random", model_type="random", architecture="Random", sha256="0" * 64
        ),
        shape=shape,
        dtype=dtype,
        layers=[f"layers.{layer}.experts" for layer in range(shape.num_layers)],
        files=files,
    )
    (root / manifest.MANIFEST_NAME).write_bytes(msgspec.json.encode(document))
