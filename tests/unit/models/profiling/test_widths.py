"""The cost of every width on held-out text equals the profile's, on the shipped checkpoints."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from siftmoe.models.bundle.writer import prepare_bundle
from siftmoe.models.profiling.experts import ExpertStore
from siftmoe.models.profiling.forward import ProfiledModel
from siftmoe.models.profiling.products import run_products
from siftmoe.models.profiling.text import CalibrationText, calibration_windows
from siftmoe.models.similarity.quantities import Estimate
from siftmoe.models.tasks.evaluation import load_task
from siftmoe.models.tasks.task import Task
from siftmoe.models.tiny.files import checkpoint_dir, data_path
from siftmoe.models.vectors.quantise import WIDTHS

TOKENS, WINDOW = 4096, 128


def kept(estimate: Estimate, counts: np.ndarray) -> np.ndarray:
    """Mean cost of serving routed tokens by their own expert, (L, W)."""
    own = np.diagonal(estimate.value, axis1=2, axis2=3)  # [L, W, E]
    mean: np.ndarray = np.nansum(counts[:, None] * own, axis=2) / counts.sum(axis=1)[:, None]
    return mean


@pytest.mark.timeout(180)
@pytest.mark.parametrize("name", ["upcycled", "scratch"])
def test_every_width_deviates_on_held_out_text_as_in_the_profile(name: str, tmp_path: Path) -> None:
    bundle = prepare_bundle(checkpoint_dir(name), tmp_path / "bundle")
    tokenizer = bundle.load_tokenizer()
    profiled = ProfiledModel(bundle.load_backbone())
    store = ExpertStore(bundle, profiled.layers, max_bytes=1 << 30)
    text = CalibrationText.read(data_path("calibration"))
    calibration = calibration_windows(text, tokenizer, max_tokens=TOKENS, window=WINDOW, seed=0)
    task = load_task("perplexity", tokenizer=tokenizer, split="test", limit=60)
    assert isinstance(task, Task)
    ids = np.concatenate([np.asarray(sequence.tokens) for sequence in task.sequences])
    held_out = ids[:TOKENS].reshape(-1, WINDOW).astype(np.int64)
    found = []
    for windows in (calibration, held_out):
        tokens = torch.from_numpy(windows)
        found.append(run_products(profiled, store, tokens, widths=WIDTHS, rotation="hadamard"))
    (_, profile), (counts, measured) = found
    expected = kept(profile["narrow_deviation"], counts)
    np.testing.assert_allclose(kept(measured["narrow_deviation"], counts), expected, rtol=0.05)
    assert (np.diff(expected, axis=1) < 0.0).all()  # more bits, less deviation
    skip = np.nansum(counts * profile["deviation"].value[:, :, -1], axis=1) / counts.sum(axis=1)
    assert (expected[:, WIDTHS.index(8)] < 0.01 * skip).all()
