"""Short headers: what they hold, how long they are, and what is refused."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from msgspec.structs import replace

from siftmoe.agent.errors import ProtocolError
from siftmoe.agent.wire import control, protocol
from siftmoe.agent.wire.short_fields import Header, joined, seconds
from siftmoe.agent.wire.work import Apply, Result

HOSTED = SimpleNamespace(hidden_size=8, experts_of=lambda layer: {0: (3,), 5: (1, 4, 9)}[layer])


def request(pairs, weights, *, layer=5, reply_runs=None, rows=None, **changes) -> Apply:
    count = rows or 1 + max(row for row, _ in pairs)
    hidden = np.arange(8 * count, dtype=np.float32).reshape(count, 8)
    fields = {
        "id": 70_000,
        "layer": layer,
        "hidden": protocol.pack_rows(hidden, 4, rotation="hadamard"),
        "pairs": np.array(pairs, np.int32),
        "weights": np.array(weights, np.float32),
        "deadline_s": 2.5,
        "reply_runs": reply_runs or ((4, count),),
        "reply_rotation": "hadamard",
        "residents": HOSTED.experts_of(layer),
    }
    return Apply(**{**fields, **changes})


def same(got: Apply, sent: Apply) -> None:
    assert (got.layer, got.answer_runs, got.residents) == (
        sent.layer,
        sent.answer_runs,
        sent.residents,
    )
    np.testing.assert_array_equal(got.pairs, sent.pairs)
    np.testing.assert_array_equal(got.weights, sent.weights)
    np.testing.assert_array_equal(protocol.plain(got.hidden), protocol.plain(sent.hidden))


def test_a_row_of_the_only_expert_needs_no_bit_beside_its_header():
    sent = request([(0, 3)], [1.0], layer=0)
    header, vectors = protocol.encode(sent)
    assert 8 * len(header) == control.HEADER_BITS[0] == 80
    got = protocol.decode([header, vectors], HOSTED)
    same(got, sent)
    assert got.id == 70_000 % 65_536
    assert got.deadline_s == pytest.approx(2.5, rel=0.01)
    assert got.deadline_s >= 2.5


def test_rows_of_several_experts_have_indices_counts_and_the_weights_behind_the_first():
    weights = control.rounded(np.array([0.25, -0.5], np.float32), 8)
    sent = request([(0, 9), (1, 1), (1, 4), (1, 9)], [1.0, weights[0], 1.0, weights[1]])
    header, vectors = protocol.encode(sent)
    same(protocol.decode([header, vectors], HOSTED), sent)
    rows = [
        control.row_control_bits(residents=3, pairs=pairs, reply_width=4, mixed=False)
        for pairs in (1, 3)
    ]
    counts = 2 * control.bits_for(3)
    assert rows == [2, 3 * 2 + 2 * 8]
    assert len(header) == 10 + -(-(sum(rows) + counts) // 8)


@pytest.mark.parametrize(("width", "error"), [(8, 1 / 254), (16, 1 / 65_534), (32, 0.0)])
def test_weights_are_as_fine_as_the_answers(width, error):
    exact = np.array([0.7, -0.123456, 1.0, -1.0, 0.0], np.float32)
    bits = control.weight_bits(width)
    assert np.abs(control.rounded(exact, bits) - exact).max() <= error * (1 + 1e-6)
    np.testing.assert_array_equal(
        control.rounded(control.rounded(exact, bits), bits), control.rounded(exact, bits)
    )


def test_answers_have_widths_of_their_own():
    runs = ((16, 1), (4, 1), (32, 1))
    weights = [control.rounded(np.array([w], np.float32), b)[0] for w, b in ((0.3, 16), (0.7, 32))]
    pairs = [(0, 1), (0, 4), (1, 9), (2, 4), (2, 9)]
    sent = request(pairs, [weights[0], 1.0, 1.0, 1.0, weights[1]], reply_runs=runs)
    same(protocol.decode(protocol.encode(sent), HOSTED), sent)


def test_a_result_is_as_short():
    output = np.arange(24, dtype=np.float32).reshape(3, 8)
    runs = ((4, 1), (16, 2))
    sent = Result(
        id=70_000,
        output=protocol.pack_runs(output, runs, rotation="hadamard"),
        compute_s=0.00123456,
        queue_s=0.0,
        short=True,
    )
    header, vectors = protocol.encode(sent)
    assert len(header) == 7 + 2 * 2
    got = protocol.decode([header, vectors], HOSTED)
    assert (got.id, got.short) == (4_464, True)
    np.testing.assert_array_equal(got.output.rows(), sent.output.rows())
    assert 0.0 <= sent.compute_s - got.compute_s <= 0.01 * sent.compute_s
    one = with_output(sent, protocol.pack_runs(output, ((8, 3),), rotation="none"))
    assert 8 * len(protocol.encode(one)[0]) == control.HEADER_BITS[1] == 72


def with_output(result: Result, output) -> Result:
    return replace(result, output=output)


@pytest.mark.parametrize(
    "changes",
    [
        {"weights": np.array([0.5], np.float32)},  # no weight of 1: the coordinator applied none
        {"pairs": np.array([(0, 2)], np.int32)},  # not hosted
        {"residents": None},
    ],
)
def test_what_has_no_room_in_a_short_header_gets_a_map(changes):
    sent = replace(request([(0, 4)], [1.0]), **changes)
    frames = protocol.encode(sent)
    assert len(frames) == 4
    got = protocol.decode(frames)
    np.testing.assert_array_equal(got.pairs, sent.pairs)
    np.testing.assert_array_equal(got.weights, sent.weights)
    assert got.answer_runs == sent.answer_runs


def test_a_map_has_widths_of_answers_too():
    sent = request([(0, 4), (1, 4)], [1.0, 0.5], reply_runs=((3, 1), (8, 1)), residents=None)
    assert protocol.decode(protocol.encode(sent)).reply_runs == ((3, 1), (8, 1))


def test_an_agent_that_hosts_something_else_refuses():
    frames = protocol.encode(request([(0, 4)], [1.0]))
    other = SimpleNamespace(hidden_size=8, experts_of=lambda _layer: (1, 4, 8))
    with pytest.raises(ProtocolError, match="ask hello") as found:
        protocol.decode(frames, other)
    assert found.value.request_id == 70_000 % 65_536


def test_without_knowledge_of_the_model_a_short_header_is_an_error():
    with pytest.raises(ProtocolError, match="no model"):
        protocol.decode(protocol.encode(request([(0, 4)], [1.0])))


@pytest.mark.parametrize("cut", range(12))
def test_a_header_that_ends_early_is_an_error(cut):
    header, vectors = protocol.encode(request([(0, 4), (0, 9)], [1.0, 0.0]))
    assert len(header) == 12
    with pytest.raises(ProtocolError):
        protocol.decode([header[:cut], vectors], HOSTED)


def test_more_bytes_than_the_rows_need_are_an_error():
    header, vectors = protocol.encode(request([(0, 4), (0, 9)], [1.0, 0.0]))
    with pytest.raises(ProtocolError, match="more bytes"):
        protocol.decode([header + b"\0", vectors], HOSTED)


def test_a_weight_that_is_not_finite_is_refused():
    sent = request([(0, 4), (0, 9)], [1.0, 0.5], reply_runs=((32, 1),))
    header, vectors = protocol.encode(sent)
    bits = control.BitWriter()
    bits.write(np.array([1, 2]), 2)
    bits.write(np.array([np.inf], np.float32).view(np.uint32), 32)
    with pytest.raises(ProtocolError, match="finite"):
        protocol.decode([header[:10] + bits.done(), vectors], HOSTED)


def test_times_are_three_digits_of_any_size():
    for value in (0.0, 1e-9, 3.14159e-4, 0.5, 12_345.6):
        down = Header(seconds(value)).seconds()
        up = Header(seconds(value, up=True)).seconds()
        assert down <= value <= up <= value * 1.008
        assert down >= value / 1.008
    with pytest.raises(ValueError, match="finite"):
        seconds(-1.0)


def test_runs_of_both_widths_are_joined():
    runs = joined(((4, 3), (16, 2)), ((8, 1), (6, 4)))
    assert runs == [(4, 8, 1), (4, 6, 2), (16, 6, 2)]
    with pytest.raises(ValueError, match="answers"):
        joined(((4, 3),), ((8, 2),))
