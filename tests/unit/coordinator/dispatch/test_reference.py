"""Experts of a bundle on the user's device, against the same experts of an agent's runtime."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from siftmoe.coordinator.dispatch.reference import MOST, BundleExperts
from siftmoe.models.bundle.reader import Bundle
from siftmoe.models.errors import BundleCorrupt
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
    assert len(reference._sessions) == MOST


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
