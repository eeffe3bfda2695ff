"""`siftmoe.local` and `siftmoe.connect` as a program or a notebook uses them."""

from __future__ import annotations

import gc
import os
from typing import TYPE_CHECKING, Any

import psutil
import pytest
import torch
from families import build_model
from transformers import AutoTokenizer

import siftmoe
from siftmoe.agent.config import AgentConfig
from siftmoe.agent.process.launch import spawn, stop_all
from siftmoe.coordinator.config.testbed import load_testbed
from siftmoe.coordinator.ledger.store import Ledger, SelectionRow, TransmissionRow
from siftmoe.models.tiny.files import checkpoint_dir

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

TOKENS = torch.arange(3, 13)[None, :]


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return AutoTokenizer.from_pretrained(checkpoint_dir("upcycled"))


@pytest.fixture
def start(family_bundle: Callable[[str], Path], tokenizer: Any) -> Callable[..., Any]:
    """Start two agents with a small random model; its tokens mean nothing."""

    def start(**options: Any) -> Any:
        given = {"agents": 2, "bits": 32, "tokenizer": tokenizer} | options
        return siftmoe.local(family_bundle("mixtral"), **given)

    return start


def agents_of_this_process() -> list[psutil.Process]:
    children = psutil.Process(os.getpid()).children()
    return [child for child in children if "siftmoe.agent" in " ".join(child.cmdline())]


def logits_of(model: Any, **more: Any) -> torch.Tensor:
    with torch.inference_mode():
        logits: torch.Tensor = model(TOKENS, **more).logits
    return logits


def test_it_is_the_undivided_model_and_says_what_it_cost(start: Callable[..., Any]) -> None:
    whole = logits_of(build_model("mixtral"))
    with start() as run:
        assert torch.allclose(logits_of(run.model), whole, atol=1e-4)
        assert len(agents_of_this_process()) == 2
        assert run.ledger.summary().tokens == 10
        text = str(run.table())
    assert not agents_of_this_process()
    assert run.closed
    assert str(run.table()) == text
    assert "tokens                           10" in text
    assert "modelled" in text
    assert all(len(line) <= 80 for line in text.splitlines())
    with pytest.raises(ValueError, match="deployment is closed"):
        run.generate("more")


def test_a_broadcast_is_the_undivided_model_in_fewer_transmissions(
    start: Callable[..., Any],
) -> None:
    whole = logits_of(build_model("mixtral"))
    rows = {}
    for uplink in ("unicast", "broadcast"):
        with start(uplink=uplink) as run:
            assert torch.allclose(logits_of(run.model), whole, atol=1e-4)
            rows[uplink] = [r for r in run.ledger.rows(TransmissionRow) if r.direction == "up"]
    assert all(row.heard == "" for row in rows["unicast"])
    assert any(" " in row.heard for row in rows["broadcast"])
    assert all(row.agent in row.heard.split() for row in rows["broadcast"])
    # a token that both helpers need is one vector
    sent = {uplink: sum(row.tokens for row in found) for uplink, found in rows.items()}
    assert sent["broadcast"] < sent["unicast"]


def test_without_a_tokenizer_the_model_can_be_called(start: Callable[..., Any]) -> None:
    with start(tokenizer=None) as run:
        logits_of(run.model)
        with pytest.raises(ValueError, match="no tokenizer; give one with tokenizer="):
            run.generate("more")


def test_a_cell_can_be_run_twice(start: Callable[..., Any], tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    answers = []
    for _ in range(2):
        with start(ledger=path) as run:
            answers.append(logits_of(run.model))
    assert torch.equal(*answers)
    with Ledger.open(path) as ledger:
        assert len(ledger.labels()) == 2


def test_what_is_not_closed_ends_with_its_last_name(start: Callable[..., Any]) -> None:
    run = start()
    assert len(agents_of_this_process()) == 2
    run = start()
    gc.collect()
    assert len(agents_of_this_process()) == 2
    run.close()
    assert not agents_of_this_process()


def keep_first(problem: siftmoe.SelectionProblem, *, slots: float = 1.0) -> siftmoe.SelectionPlan:
    keep = problem.gate_weights.argsort(axis=1) >= problem.top_k - int(slots)
    return siftmoe.plan_keeping(problem, keep)


class Blocked:
    """Links of one's own: helper 0 is far away."""

    num_links = 2

    def __init__(self) -> None:
        self._near = siftmoe.simulated_links(siftmoe.RadioEntry(fading="none"), [20.0, 200.0])

    def states(self, now_s: float) -> siftmoe.LinkStates:
        return self._near.states(now_s)


def test_policies_and_links_are_taken_as_objects(start: Callable[..., Any]) -> None:
    with start(policy=keep_first, links=Blocked()) as run:
        logits_of(run.model)
        rows = list(run.ledger.rows(SelectionRow))
        assert {(row.kept, row.skipped) for row in rows} == {(10, 10)}
        gains = {r.agent: r.channel_gain for r in run.ledger.rows(TransmissionRow)}
        assert gains["agent-0"] == pytest.approx(1000.0 * gains["agent-1"])
        assert run.policy == "keep_first"


@pytest.mark.parametrize("family", ["mixtral", "switch"])
def test_a_model_in_memory_gets_its_experts_back(
    family: str, tokenizer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    more = {} if family == "mixtral" else {"decoder_input_ids": TOKENS}
    model = build_model(family)
    whole = logits_of(model, **more)
    with siftmoe.local(model, agents=2, bits=32, tokenizer=tokenizer) as run:
        assert run.model is model
        assert torch.allclose(logits_of(model, **more), whole, atol=1e-4)
        assert run.ledger.summary().tokens == 10
    assert torch.equal(logits_of(model, **more), whole)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"agents": 9}, "9 agents, but a layer has 4 experts"),
        ({"policy": "nonsense"}, "no policy is named 'nonsense'"),
        ({"policy": "siftmoe"}, "has no profile"),
        ({"policy": 3}, "neither a function"),
        ({"links": 3}, "give a name, links with states"),
        ({"links": "nonsense"}, "no source of links is named 'nonsense'"),
        ({"fadding": "none"}, "unknown field `fadding`"),
        ({"bits": 7}, "bits"),
    ],
)
def test_what_is_wrong_is_said_before_an_agent_starts(
    start: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, options, message
) -> None:
    def no_profile(bundle: Any, policy: Any) -> Any:
        del policy
        return bundle  # measuring one takes a tokenizer in the bundle

    monkeypatch.setattr("siftmoe.tools.library.local.with_profile", no_profile)
    with pytest.raises(Exception, match=message) as raised:
        start(**options)
    assert not isinstance(raised.value, KeyError | TypeError | AttributeError)
    assert not agents_of_this_process()


def test_what_is_no_model_is_named() -> None:
    with pytest.raises(ValueError, match="3 is no model: give upcycled, scratch, a folder"):
        siftmoe.local(3)
    with pytest.raises(ValueError, match="no model 'nowhere'"):
        siftmoe.local("nowhere")


TESTBED = """
[model]
bundle = "{bundle}"
[policy]
name = "topk"
[radio]
bits = 32
deadline_s = 0.01
[[agent]]
name = "left"
address = "{address}"
"""


def test_connect_takes_a_file_or_what_was_read_from_it(
    family_bundle: Callable[[str], Path], tmp_path: Path, tokenizer: Any
) -> None:
    bundle = family_bundle("mixtral")
    tokenizer.save_pretrained(tmp_path / "tokenizer")
    agent = spawn(AgentConfig(bundle=str(bundle), name="left", threads=1))
    try:
        path = tmp_path / "testbed.toml"
        path.write_text(TESTBED.format(bundle=bundle, address=agent.wait().endpoint))
        whole = logits_of(build_model("mixtral"))
        for testbed in (path, str(path), load_testbed(path)):
            with siftmoe.connect(testbed, tokenizer=tokenizer) as run:
                assert torch.allclose(logits_of(run.model), whole, atol=1e-4)
                assert run.ledger.summary().tokens == 10
        with siftmoe.connect(path, policy=keep_first, tokenizer=tokenizer) as run:
            logits_of(run.model)
            assert run.table().summary.skipped == 20
    finally:
        stop_all([agent.process])
