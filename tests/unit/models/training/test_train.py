"""Training: learning rate, windows, resumption."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from siftmoe.models.training import train as train_module
from siftmoe.models.training.train import Recipe, Training, Windows


def test_a_longer_recipe_starts_the_same():
    short, long = Recipe(steps=1000), Recipe(steps=2000)
    assert [short.rate(s) for s in range(700)] == [long.rate(s) for s in range(700)]
    assert short.rate(0) == pytest.approx(3e-5)
    assert short.rate(850) == pytest.approx(1.5e-3)
    assert short.rate(999) == pytest.approx(1e-5)


def test_windows_visit_everything_once_an_epoch():
    windows = Windows(np.arange(20_000), seed=3)
    count = (20_000 - 1) // 256 - 1
    batches = [windows.batch(step) for step in range(count // 8)]
    starts = {tuple(row[:2].tolist()) for batch in batches for row in batch}
    assert len(starts) == len(batches) * 8
    assert torch.equal(Windows(np.arange(20_000), seed=3).batch(5), batches[5])


def test_a_training_that_was_stopped_ends_with_the_same_weights(tmp_path, monkeypatch):
    monkeypatch.setattr(train_module, "WINDOW", 16)
    monkeypatch.setattr(train_module, "VAL_WINDOWS", 8)
    rng = np.random.default_rng(0)
    for split in ("train", "val"):
        np.save(tmp_path / f"{split}.npy", rng.integers(4, 2048, size=2_000).astype(np.uint16))

    def train(work: str, *stops: int) -> torch.Tensor:
        for steps in stops:
            recipe = Recipe(steps=steps, num_experts=2, warmup_steps=1, decay_share=0.0)
            training = Training("x", recipe, tokens=tmp_path, work=tmp_path / work)
            training.run()
        return training.model.lm_head.weight.detach()

    assert torch.equal(train("whole", 3), train("parts", 1, 3))
