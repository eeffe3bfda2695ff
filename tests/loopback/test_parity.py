"""Distributed equals undivided: every family on real agents against its own plain model."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
import transformers
from families import FAMILIES, VOCABULARY, Family, save_checkpoint
from transformers.modeling_outputs import MoEModelOutput

from siftmoe.coordinator.air.interface import AirInterface
from siftmoe.coordinator.coordinator import Coordinator
from siftmoe.coordinator.ledger.store import Ledger, SelectionRow, StepRow, TransmissionRow
from siftmoe.coordinator.links.fixed import FixedLinks
from siftmoe.coordinator.policies.registry import make_policy
from siftmoe.coordinator.selection.problem import Budget, BudgetKind
from siftmoe.coordinator.selection.tables import unknown_tables
from siftmoe.models.bundle.reader import Bundle
from siftmoe.models.bundle.writer import prepare_bundle
from siftmoe.tools.comparing.local_fleet import LocalFleet, local_fleet

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from siftmoe.coordinator.selection.policy import Policy
    from siftmoe.coordinator.selection.problem import SelectionPlan, SelectionProblem

AGENTS = 2
DECODE_STEPS = 3
NEW_TOKENS = 6
#: Two sequences, the second one padded on the right; a decoder's of an encoder-decoder has its own.
LENGTHS = (7, 4)
TOKENS = sum(LENGTHS)
DECODER_LENGTH = 3


@dataclass(frozen=True)
class Served:
    """A family's undivided model, and its backbone with the agents that hold its experts."""

    family: Family
    bundle: Bundle
    plain: Any
    model: Any
    fleet: LocalFleet
    folder: Path

    @contextmanager
    def coordinated(self, policy: Policy | None = None) -> Iterator[Ledger]:
        """Attach the backbone to a new coordinator; yields its ledger."""
        shape = self.bundle.shape
        path = self.folder / f"{len(list(self.folder.iterdir()))}.sqlite"
        with Ledger.create(path) as ledger:
            coordinator = Coordinator(
                fleet=self.fleet.fleet,
                dispatcher=self.fleet.dispatcher,
                links=FixedLinks(gain=[1e-7, 2e-7], noise_psd=4e-21, bandwidth_hz=2e6),
                air=AirInterface(
                    payload_bits=512,
                    token_deadline_s=1e-3,
                    tx_power_limit_w=10.0,
                    width=32,
                    reply_width=32,
                ),
                policy=policy or make_policy("topk"),
                tables=unknown_tables(
                    shape.num_layers,
                    shape.num_experts,
                    budget=Budget(kind=BudgetKind.PER_TOKEN, value=0.0),
                    width=32,
                ),
                ledger=ledger,
            )
            coordinator.attach(self.model)
            try:
                yield ledger
            finally:
                coordinator.detach()


@contextmanager
def serve(family: Family, checkpoint: Path, bundle: Bundle, folder: Path) -> Iterator[Served]:
    plain = getattr(transformers, family.model).from_pretrained(checkpoint).eval()
    with local_fleet(bundle, AGENTS) as fleet:
        yield Served(family, bundle, plain, bundle.load_backbone().eval(), fleet, folder)


@pytest.fixture(scope="module", params=FAMILIES)
def served(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    family_checkpoint: Callable[[str], Path],
    family_bundle: Callable[[str], Path],
) -> Iterator[Served]:
    name = request.param
    bundle = Bundle.open(family_bundle(name))
    folder = tmp_path_factory.mktemp(f"ledgers-{name}")
    with serve(FAMILIES[name], family_checkpoint(name), bundle, folder) as served:
        yield served


def tokens(*shape: int, seed: int = 0) -> torch.Tensor:
    """Token numbers without those that mean beginning, end or padding."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(3, VOCABULARY, shape, generator=generator)


def padded_batch() -> tuple[torch.Tensor, torch.Tensor]:
    ids, mask = tokens(len(LENGTHS), max(LENGTHS)), torch.zeros(len(LENGTHS), max(LENGTHS))
    for row, length in enumerate(LENGTHS):
        mask[row, :length] = 1
        ids[row, length:] = 0
    return ids, mask.long()


def prefill(model: Any, family: Family) -> Any:
    ids, mask = padded_batch()
    inputs = {"input_ids": ids, "attention_mask": mask}
    if family.encoder_decoder:
        inputs["decoder_input_ids"] = tokens(len(LENGTHS), DECODER_LENGTH, seed=1)
    with torch.inference_mode():
        return model(**inputs)


def decode(model: Any, family: Family, before: Any, step: int) -> Any:
    """Feed one more token of every sequence."""
    _, mask = padded_batch()
    token = tokens(len(LENGTHS), 1, seed=10 + step)
    inputs = {"past_key_values": before.past_key_values}
    if family.encoder_decoder:
        inputs["decoder_input_ids"] = token
        inputs["encoder_outputs"] = MoEModelOutput(before.encoder_last_hidden_state)
        inputs["attention_mask"] = mask
    else:
        inputs["input_ids"] = token
        inputs["attention_mask"] = torch.cat([mask, mask.new_ones(len(LENGTHS), step + 1)], dim=1)
    with torch.inference_mode():
        return model(**inputs)


def real_logits(output: Any, family: Family) -> torch.Tensor:
    """Logits of a prefill's real tokens, one after the other."""
    if family.encoder_decoder:
        return output.logits.flatten(0, 1)
    return output.logits[padded_batch()[1].bool()]


def assert_equal(distributed: torch.Tensor, undivided: torch.Tensor) -> None:
    torch.testing.assert_close(distributed, undivided, atol=1e-4, rtol=0.0)


def test_logits_of_prefill_and_decode(served: Served) -> None:
    family = served.family
    with served.coordinated():
        got, wanted = prefill(served.model, family), prefill(served.plain, family)
        assert_equal(real_logits(got, family), real_logits(wanted, family))
        for step in range(DECODE_STEPS):
            got = decode(served.model, family, got, step)
            wanted = decode(served.plain, family, wanted, step)
            assert_equal(got.logits, wanted.logits)


def test_the_experts_decide_the_logits(served: Served) -> None:
    """Without their share the logits are others: the comparison above can fail."""
    keep = make_policy("topk")

    def serve_nobody(problem: SelectionProblem) -> SelectionPlan:
        return keep(replace(problem, gate_weights=np.zeros_like(problem.gate_weights)))

    with served.coordinated(serve_nobody) as ledger:
        got = real_logits(prefill(served.model, served.family), served.family)
        assert list(ledger.rows(TransmissionRow)) == []
    wanted = real_logits(prefill(served.plain, served.family), served.family)
    assert float((got - wanted).abs().max()) > 1e-2


def test_greedy_generation(served: Served) -> None:
    ids = tokens(1, 5, seed=2)
    options = {
        "attention_mask": torch.ones_like(ids),
        "do_sample": False,
        "min_new_tokens": NEW_TOKENS,
        "max_new_tokens": NEW_TOKENS,
    }
    with served.coordinated() as ledger:
        got = served.model.generate(ids, **options)
        steps = [(row.kind, row.tokens) for row in ledger.rows(StepRow)]
    assert got.tolist() == served.plain.generate(ids, **options).tolist()
    decoded = [("decode", 1)] * (NEW_TOKENS - 1)
    if served.family.encoder_decoder:  # the decoder's first token is a step like the others
        assert steps == [("prefill", 5), ("decode", 1), *decoded]
    else:
        assert steps == [("prefill", 5), *decoded]


def test_only_real_tokens_are_transmitted(served: Served) -> None:
    family, sent, loads = served.family, [], []
    keep = make_policy("topk")

    def noting(problem: SelectionProblem) -> SelectionPlan:
        plan = keep(problem)
        sent.append(problem.num_tokens)
        loads.append(plan.loads(AGENTS))
        return plan

    with served.coordinated(noting) as ledger:
        prefill(served.model, family)
        (step,) = ledger.rows(StepRow)
        selections = list(ledger.rows(SelectionRow))
        bursts = list(ledger.rows(TransmissionRow))
    wanted = [TOKENS] * family.num_layers
    if family.encoder_decoder:
        decoder = len(LENGTHS) * DECODER_LENGTH
        wanted[family.num_layers // 2 :] = [decoder] * (family.num_layers // 2)
        assert step.tokens == decoder
    else:
        assert step.tokens == TOKENS
    assert sent == wanted
    assert [(row.kept, row.replaced, row.skipped) for row in selections] == [
        (count * family.top_k, 0, 0) for count in wanted
    ]
    for direction in ("up", "down"):
        booked = np.zeros((family.num_layers, AGENTS), dtype=int)
        for row in bursts:
            if row.direction == direction:
                booked[row.layer, served.fleet.fleet.index(row.agent)] += row.tokens
        assert booked.tolist() == np.array(loads).tolist()
        assert np.all(booked.sum(axis=1) >= wanted)  # a token goes to at least one helper


def test_tokens_that_switch_drops_are_not_transmitted(tmp_path: Path) -> None:
    """Beyond an expert's capacity a token passes the layer by."""
    family, length = FAMILIES["switch"], 12
    checkpoint = save_checkpoint("switch", tmp_path / "checkpoint", expert_capacity=2)
    bundle = prepare_bundle(checkpoint, tmp_path / "bundle")
    (tmp_path / "ledgers").mkdir()
    inputs = {
        "input_ids": tokens(1, length, seed=3),
        "decoder_input_ids": tokens(1, length, seed=4),
    }
    with serve(family, checkpoint, bundle, tmp_path / "ledgers") as served, torch.inference_mode():
        served_tokens: list[int] = []
        for module in served.plain.modules():
            if type(module).__name__ == "SwitchTransformersTop1Router":
                module.register_forward_hook(
                    lambda *call: served_tokens.append(int(call[-1][0].sum()))
                )
        wanted = served.plain(**inputs).logits
        with served.coordinated() as ledger:
            assert_equal(served.model(**inputs).logits, wanted)
            kept = [row.kept for row in ledger.rows(SelectionRow)]
            uplinks = [row for row in ledger.rows(TransmissionRow) if row.direction == "up"]
    assert kept == served_tokens
    assert sum(row.tokens for row in uplinks) == sum(served_tokens)
    assert sum(served_tokens) < family.num_layers * length
