"""Experts of a bundle on the user's device, against the same experts of an agent's runtime."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from siftmoe.coordinator.dispatch.reference import BundleExperts
from siftmoe.models.bundle.reader import Bundle
from siftmoe.models.errors import BundleCorrupt, ModelError
from siftmoe.tools.comparing.inprocess import ExpertsInProcess

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture(scope="module")
def bundle(family_bundle: Callable[[str], Path]) -> Bundle:
    return Bundle.open(family_bundle("olmoe"))


def test_rows_are_those_of_an_agent(bundle: Bundle) -> None:
    rng = np.random.default_rng(0)
    shape, reference = bundle.shape, BundleExperts.of(bundle.manifest)
    assert reference is not None
    agent = ExpertsInProcess(bundle)
    hidden = rng.standard_normal((5, shape.hidden_size)).astype(np.float32)
    for layer in range(shape.num_layers):
        routed = np.stack([rng.permutation(shape.num_experts)[:3] for _ in range(5)])
        gates = rng.random((5, 3))
        pairs = np.stack((np.repeat(np.arange(5), 3), routed.ravel()), axis=1).astype(np.int32)
        again = reference(layer, hidden, pairs, gates.ravel().astype(np.float32))
        true = agent.undivided(layer, hidden, routed_experts=routed, gate_weights=gates)
        np.testing.assert_allclose(again, true, rtol=1e-4, atol=1e-5)


def test_experts_are_released_beyond_what_may_be_kept(bundle: Bundle) -> None:
    """An expert larger than that is in memory for its row only."""
    size = bundle.manifest.expert_file(0, 0).num_bytes
    row = np.zeros((1, bundle.shape.hidden_size), np.float32)
    every = [np.array([[0, expert]], np.int32) for expert in range(bundle.shape.num_experts)]
    for kept, loaded in ((int(2.5 * size), 2), (size - 1, 0)):
        reference = BundleExperts(bundle.manifest, kept_bytes=kept)
        for pairs in every:
            reference(0, row, pairs, np.ones(1, np.float32))
            assert len(reference._sessions) <= loaded
        assert len(reference._sessions) == loaded


def test_an_expert_that_cannot_be_computed_here_is_named(bundle: Bundle) -> None:
    wide = np.zeros((1, bundle.shape.hidden_size + 1), np.float32)
    with pytest.raises(ModelError, match="expert 1 of layer 0 cannot be computed"):
        BundleExperts(bundle.manifest)(0, wide, np.array([[0, 1]], np.int32), np.ones(1, "f4"))


def test_a_damaged_bundle_accuses_nobody(bundle: Bundle) -> None:
    path = bundle.manifest.root / bundle.manifest.expert_file(0, 1).name
    whole = path.read_bytes()
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    try:
        row = np.zeros((1, bundle.shape.hidden_size), np.float32)
        with pytest.raises(BundleCorrupt):
            BundleExperts(bundle.manifest)(0, row, np.array([[0, 1]], np.int32), np.ones(1, "f4"))
    finally:
        path.write_bytes(whole)
