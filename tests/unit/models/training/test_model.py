"""Loss, load balancing and upcycling of the tiny models."""

from __future__ import annotations

import pytest
import torch

from siftmoe.models.training.loss import head_cross_entropy
from siftmoe.models.training.model import load_balancing_loss, new_model, upcycle


def test_the_loss_equals_the_plain_one():
    torch.manual_seed(0)
    hidden = torch.randn(600, 16, dtype=torch.double, requires_grad=True)
    weight = torch.randn(50, 16, dtype=torch.double, requires_grad=True)
    targets = torch.randint(0, 50, (600,))
    ours = head_cross_entropy(hidden, weight, targets)
    plain = torch.nn.functional.cross_entropy(hidden @ weight.T, targets)
    torch.testing.assert_close(ours, plain)
    for a, b in zip(
        torch.autograd.grad(3 * ours, (hidden, weight)),
        torch.autograd.grad(3 * plain, (hidden, weight)),
        strict=True,
    ):
        torch.testing.assert_close(a, b)


def test_the_balancing_loss_sees_single_layers():
    even = torch.zeros(4, 4).fill_diagonal_(9.0) + torch.zeros(4, 4).fill_diagonal_(9.0).roll(1, 1)
    first = torch.tensor([[9.0, 9.0, 0.0, 0.0]] * 4)
    last = first.flip(1)  # each layer has collapsed, their sum is even
    assert load_balancing_loss((even, even), 2).item() == pytest.approx(2.0, abs=1e-3)
    assert load_balancing_loss((first, last), 2).item() > 3.9


def test_upcycling_keeps_three_quarters_of_each_expert():
    dense = new_model(1, seed=0)
    model = upcycle(dense, seed=1)
    old = dense.model.layers[2].mlp.experts
    new = model.model.layers[2].mlp.experts
    redrawn = set()
    for expert in range(8):
        same = (new.gate_up_proj[expert] == old.gate_up_proj[0]).all(dim=1)
        assert same.sum() == 2 * 192
        assert (same[:256] == same[256:]).all()  # gate and up of a unit are redrawn together
        assert ((new.down_proj[expert] == old.down_proj[0]).all(dim=0) == same[:256]).all()
        redrawn.add(tuple(same.tolist()))
    assert len(redrawn) == 8
    assert torch.equal(model.model.embed_tokens.weight, dense.model.embed_tokens.weight)
