"""Vectors in few bits, over sockets: real agents, one of which knows 16 and 32 bits only."""

from __future__ import annotations

import itertools
from contextlib import contextmanager
from dataclasses import replace
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import msgpack
import numpy as np
import pytest
import zmq
from bundles import reference, shape_of, write_bundle

from siftmoe.agent.config import AgentConfig
from siftmoe.agent.errors import ErrorCode
from siftmoe.agent.process.launch import spawn
from siftmoe.agent.wire import protocol
from siftmoe.coordinator.client.requests import Client
from siftmoe.coordinator.config.entries import AgentEntry
from siftmoe.coordinator.dispatch.dispatcher import Dispatcher
from siftmoe.coordinator.errors import AgentRefused
from siftmoe.coordinator.fleet.agents import Fleet
from siftmoe.coordinator.selection.problem import LOCAL, NOBODY, SelectionPlan, Status
from siftmoe.models.bundle.manifest import Manifest
from siftmoe.models.vectors.fused import active_packing
from siftmoe.models.vectors.packing import row_bits
from siftmoe.models.vectors.quantise import WIDTHS, round_trip
from siftmoe.models.vectors.records import ROW_WIDTHS
from siftmoe.tools.comparing.inprocess import ExpertsInProcess

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

D, E, T = 48, 4, 9
SHAPE = shape_of(num_layers=1, num_experts=E, hidden_size=D, intermediate_size=64)
PATIENCE_S = 30.0


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_bundle(tmp_path_factory.mktemp("bundle") / "plain", SHAPE)


@pytest.fixture(scope="module")
def endpoints(folder: Path) -> Iterator[list[str]]:
    """Two agents that know every width, and one that knows floating-point numbers.

    The first packs by compiled code, as these tests do, the second by numpy.
    """
    started = [
        spawn(
            AgentConfig(
                bundle=str(folder),
                provider="cpu",
                threads=1,
                name=name,
                widths=widths,
                packing=packing,
            )
        )
        for name, widths, packing in (
            ("a0", "all", "compiled"),
            ("a1", "all", "numpy"),
            ("a2", "16,32", "numpy"),
        )
    ]
    agents = [one.wait() for one in started]
    assert [agent.started["packing"] for agent in agents] == ["compiled", "numpy", "numpy"]
    yield [agent.endpoint for agent in agents]
    assert [agent.stop() for agent in agents] == [0, 0, 0]


@contextmanager
def dispatching(endpoints: list[str], folder: Path, **options: Any) -> Iterator[Dispatcher]:
    fleet = Fleet(
        [AgentEntry(name=f"a{n}", address=address) for n, address in enumerate(endpoints)],
        shape=SHAPE,
        model_hash=Manifest.load(folder).model_hash,
    )
    with Client(fleet) as client:
        client.connect(timeout_s=PATIENCE_S)
        yield Dispatcher(client, deadline_s=PATIENCE_S, **options)


def in_process(folder: Path, **options: Any) -> ExpertsInProcess:
    bundle: Any = SimpleNamespace(shape=SHAPE, manifest=Manifest.load(folder))
    return ExpertsInProcess(bundle, **options)


def plan_of(rng: np.random.Generator, widths: Any, *, helpers: int = 2) -> SelectionPlan:
    """Two slots a token, on any experts, some skipped; a width for every (token, helper)."""
    helper = rng.integers(NOBODY + 1, helpers, (T, 2))
    helper = np.where(helper < 0, NOBODY, helper)
    expert = np.where(helper < 0, E, rng.integers(0, E, (T, 2)))
    width = np.take_along_axis(rng.choice(widths, (T, helpers)), helper.clip(0), axis=1)
    return SelectionPlan(
        helper=helper,
        expert=expert,
        weight=np.where(helper < 0, 0.0, rng.random((T, 2))),
        width=np.where(helper < 0, 0, width),
        status=Status.FEASIBLE,
        energy_j=0.0,
        lower_bound_j=0.0,
        deviation=np.zeros(T),
    )


def bits_up(plan: SelectionPlan) -> dict[int, int]:
    """Bits of each helper's vectors by the formula."""
    vectors = {
        (int(n), t): int(width)
        for t in range(T)
        for n, width in zip(plan.helper[t], plan.width[t], strict=True)
        if n >= 0
    }
    sums: dict[int, int] = {}
    for (n, _), width in vectors.items():
        sums[n] = sums.get(n, 0) + row_bits(D, width)
    return sums


@pytest.mark.parametrize("rotation", ["none", "hadamard"])
@pytest.mark.parametrize("reply_width", [32, 16, 8, 4, 3])
def test_agents_answer_what_experts_in_this_process_do_to_the_last_bit(
    endpoints: list[str], folder: Path, reply_width: int, rotation: Any
) -> None:
    rng = np.random.default_rng(reply_width)
    here = in_process(folder, rotation=rotation)
    assert active_packing() == "compiled"
    with dispatching(endpoints[:2], folder, rotation=rotation) as there:
        for widths in ([16], [32], [8], [3], list(ROW_WIDTHS), [2, 16], [5, 6]):
            plan = plan_of(rng, widths)
            hidden = rng.standard_normal((T, D)).astype(np.float32)
            answered = there.run(plan, hidden, layer=0, reply_width=reply_width)
            computed = here.attempt(plan, hidden, layer=0, reply_width=reply_width)
            np.testing.assert_array_equal(answered.output, computed.output)
            loads = {n: int(load) for n, load in enumerate(plan.loads(2)) if load}
            for got in (answered, computed):
                assert got.uplink_bits == bits_up(plan)
                assert got.downlink_bits == {
                    n: load * row_bits(D, reply_width) for n, load in loads.items()
                }


def reply_bits(plan: SelectionPlan) -> dict[int, int]:
    assert plan.reply_width is not None
    return bits_up(replace(plan, width=plan.reply_width))


@pytest.mark.parametrize("rotation", ["none", "hadamard"])
def test_answers_come_in_the_widths_that_the_plan_names(
    endpoints: list[str], folder: Path, rotation: Any
) -> None:
    rng = np.random.default_rng(9)
    here = in_process(folder, rotation=rotation)
    with dispatching(endpoints[:2], folder, rotation=rotation) as there:
        for replies in ([3], [4, 6], [2, 8, 16], list(ROW_WIDTHS)):
            plan = plan_of(rng, list(WIDTHS))
            width = np.take_along_axis(rng.choice(replies, (T, 2)), plan.helper.clip(0), axis=1)
            plan = replace(plan, reply_width=np.where(plan.helper < 0, 0, width))
            hidden = rng.standard_normal((T, D)).astype(np.float32)
            answered = there.run(plan, hidden, layer=0, reply_width=8)
            computed = here.attempt(plan, hidden, layer=0, reply_width=8)
            np.testing.assert_array_equal(answered.output, computed.output)
            for got in (answered, computed):
                assert got.uplink_bits == bits_up(plan)
                assert got.downlink_bits == reply_bits(plan)


def test_an_id_beyond_16_bits_comes_back_as_its_lowest_ones(
    endpoints: list[str], folder: Path
) -> None:
    rng = np.random.default_rng(11)
    hidden = rng.standard_normal((T, D)).astype(np.float32)
    with dispatching(endpoints, folder) as there:
        there._client._ids = itertools.count(70_000)
        plan = plan_of(rng, [16], helpers=2)
        answered = there.run(plan, hidden, layer=0, reply_width=8)
        alone = in_process(folder).attempt(plan, hidden, layer=0, reply_width=8)
        np.testing.assert_array_equal(answered.output, alone.output)
        refused = there.attempt(plan_of(rng, [8], helpers=3), hidden, layer=0, reply_width=16)
    assert {*refused.failures} == {2}
    assert "width_unknown" in str(refused.failures[2])


def test_a_row_that_is_checked_comes_back_as_it_would(endpoints: list[str], folder: Path) -> None:
    rng = np.random.default_rng(10)
    plan = plan_of(rng, [8])
    plan = replace(plan, reply_width=np.where(plan.helper < 0, 0, 4))
    hidden = rng.standard_normal((T, D)).astype(np.float32)
    with dispatching(endpoints[:2], folder, check_one_in=1) as there:
        answered = there.run(plan, hidden, layer=0, reply_width=8)
        alone = in_process(folder).attempt(plan, hidden, layer=0, reply_width=8)
    np.testing.assert_array_equal(answered.output, alone.output)
    assert answered.downlink_bits == reply_bits(plan)


def test_the_result_is_the_layer_on_rows_that_travelled(endpoints: list[str], folder: Path) -> None:
    rng = np.random.default_rng(1)
    plan = plan_of(rng, list(WIDTHS))
    hidden = rng.standard_normal((T, D)).astype(np.float32)
    total = np.zeros((T, D))
    for t, k in zip(*np.nonzero(plan.helper >= 0), strict=True):
        row = round_trip(hidden[[t]], int(plan.width[t, k]), rotation="hadamard").astype(float)
        total[t] += plan.weight[t, k] * reference(SHAPE, 0, int(plan.expert[t, k]), row)[0]
    with dispatching(endpoints[:2], folder) as there:
        output = there.run(plan, hidden, layer=0).output
    np.testing.assert_allclose(output, total, atol=2e-5)


def test_experts_of_the_users_device_get_vectors_as_they_are(folder: Path) -> None:
    rng = np.random.default_rng(5)
    hidden = rng.standard_normal((T, D)).astype(np.float32)
    here = in_process(folder)
    plan = plan_of(rng, [2], helpers=1)
    local = replace(
        plan,
        helper=np.where(plan.helper < 0, NOBODY, LOCAL),
        width=np.zeros_like(plan.width),
    )
    computed = here.attempt(local, hidden, layer=0, reply_width=3)
    assert (computed.uplink_bits, computed.downlink_bits) == ({}, {})
    total = np.zeros((T, D))
    for t, k in zip(*np.nonzero(local.helper == LOCAL), strict=True):
        row = hidden[[t]].astype(float)
        total[t] += plan.weight[t, k] * reference(SHAPE, 0, int(plan.expert[t, k]), row)[0]
    np.testing.assert_allclose(computed.output, total, atol=2e-5)


def test_an_overflow_fails_the_helpers_of_its_token_and_no_other(
    endpoints: list[str], folder: Path
) -> None:
    rng = np.random.default_rng(2)
    plan = plan_of(rng, [32])
    hidden = rng.standard_normal((T, D)).astype(np.float32)
    token = int(np.flatnonzero((plan.helper >= 0).any(axis=1))[0])
    hidden[token] = np.inf
    with dispatching(endpoints[:2], folder, check_one_in=None) as there:
        answered = there.attempt(plan, hidden, layer=0, reply_width=4)
    assert {*answered.failures} == {*plan.helper[token].tolist()} - {NOBODY}
    for failure in answered.failures.values():
        assert "a result must be finite" in str(failure)
    assert np.isfinite(answered.output).all()


def test_an_agent_says_which_widths_it_knows_and_refuses_others(
    endpoints: list[str], folder: Path
) -> None:
    rng = np.random.default_rng(3)
    hidden = rng.standard_normal((T, D)).astype(np.float32)
    with dispatching(endpoints, folder) as there:
        known = there._client.fleet.knows((2, 8, 16, 32))
        assert known.tolist() == [[True] * 4, [True] * 4, [False, False, True, True]]
        there.run(plan_of(rng, [16], helpers=3), hidden, layer=0, reply_width=16)
        plan = plan_of(rng, [8], helpers=3)
        partial = there.attempt(plan, hidden, layer=0, reply_width=16)
        assert {*partial.failures} == {2}
        about = r"'a2' .* refused \(width_unknown\): .* 8 bits are not known here, only of 16, 32"
        with pytest.raises(AgentRefused, match=about):
            raise partial.failures[2]
        assert partial.uplink_bits == bits_up(plan)  # all three were sent theirs
        assert {*partial.downlink_bits} == {0, 1}
    with (
        dispatching(endpoints[2:], folder) as there,
        pytest.raises(AgentRefused, match="8 bits are not known here"),
    ):
        there.run(plan_of(rng, [16], helpers=1), hidden, layer=0, reply_width=8)


@contextmanager
def dealer(endpoint: str) -> Iterator[Any]:
    with zmq.Context() as context, context.socket(zmq.DEALER) as socket:
        socket.linger = 0
        socket.rcvtimeo = int(PATIENCE_S * 1e3)
        socket.connect(endpoint)
        yield socket


def frames(**changes: Any) -> list[bytes]:
    rows = np.random.default_rng(4).standard_normal((3, D)).astype(np.float32)
    request = protocol.Apply(
        id=9,
        layer=0,
        hidden=protocol.pack_rows(rows, 4, rotation="hadamard"),
        pairs=np.array([(0, 1), (1, 2), (2, 3)], np.int32),
        weights=np.ones(3, np.float32),
        reply_width=32,
    )
    first, *others = protocol.encode(request)
    header = {**msgpack.unpackb(first), **changes}
    return [msgpack.packb(header), *(bytes(frame) for frame in others)]


@pytest.mark.parametrize(
    ("place", "change", "code", "about"),
    [
        (1, lambda pack: pack[:-1], ErrorCode.PROTOCOL, "the frame has 77"),
        (1, lambda _pack: b"", ErrorCode.PROTOCOL, "the frame has 0"),
        (1, lambda pack: b"\xc0\x7f" + pack[2:], ErrorCode.PROTOCOL, "the step of row 0 is nan"),
        (
            1,
            lambda pack: pack[:26] + b"\0\0" + pack[28:],
            ErrorCode.PROTOCOL,
            "the step of row 1 is 0.0",
        ),
        (0, lambda _: frames(widths=[[7, 3]])[0], ErrorCode.WIDTH_UNKNOWN, "7 bits"),
        (0, lambda _: frames(widths=[[4, 2]])[0], ErrorCode.PROTOCOL, "are for 2"),
        (0, lambda _: frames(reply_width=12)[0], ErrorCode.WIDTH_UNKNOWN, "12 bits"),
    ],
)
def test_a_live_agent_refuses_a_bad_pack_and_goes_on(
    endpoints: list[str], place: int, change: Any, code: ErrorCode, about: str
) -> None:
    bad = frames()
    bad[place] = change(bad[place])
    with dealer(endpoints[0]) as socket:
        for message in (frames(), bad, frames()):
            socket.send_multipart(message)
        good, refusal, again = (protocol.decode(socket.recv_multipart()) for _ in range(3))
    # Refusals overtake what is computed.
    replies = sorted((good, refusal, again), key=lambda reply: isinstance(reply, protocol.Result))
    assert (replies[0].id, replies[0].code) == (9, code)
    assert about in replies[0].message
    np.testing.assert_array_equal(replies[1].output, replies[2].output)
