"""Short headers: decode∘encode is the identity, and whatever arrives raises only ProtocolError."""

from __future__ import annotations

from itertools import groupby
from types import SimpleNamespace

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from siftmoe.agent.errors import ProtocolError
from siftmoe.agent.wire import protocol
from siftmoe.agent.wire.control import ID_BITS, rounded, weight_bits
from siftmoe.agent.wire.packed import pack_runs
from siftmoe.models.vectors.quantise import ROTATIONS
from siftmoe.models.vectors.records import ROW_WIDTHS

D = 9
HOSTS = [(0,), (3, 5), (0, 1, 2, 7, 65_535), tuple(range(40))]
HOSTED = SimpleNamespace(hidden_size=D, experts_of=lambda layer: HOSTS[layer % len(HOSTS)])


def runs_of(widths):
    return tuple((width, len([*same])) for width, same in groupby(widths))


@st.composite
def vectors(draw, widths):
    rows = np.random.default_rng(draw(st.integers(0, 99))).standard_normal((len(widths), D))
    return pack_runs(
        rows.astype(np.float32), runs_of(widths), rotation=draw(st.sampled_from(ROTATIONS))
    )


@st.composite
def requests(draw):
    layer = draw(st.integers(0, 300))
    residents = HOSTED.experts_of(layer)
    widths = draw(st.lists(st.sampled_from(ROW_WIDTHS), min_size=1, max_size=6))
    replies = draw(
        st.lists(st.sampled_from(ROW_WIDTHS), min_size=len(widths), max_size=len(widths))
    )
    most = min(len(residents), 4)
    pairs, weights = [], []
    for row, reply in enumerate(replies):
        experts = sorted(draw(st.sets(st.sampled_from(residents), min_size=1, max_size=most)))
        largest = draw(st.sampled_from(experts))
        pairs += [(row, expert) for expert in experts]
        own = [draw(st.floats(-1, 1, width=32)) for _ in experts]
        own = rounded(np.array(own, np.float32), weight_bits(reply))
        own[experts.index(largest)] = 1.0
        weights += own.tolist()
    return protocol.Apply(
        id=draw(st.integers(0, 2**64 - 1)),
        layer=layer,
        hidden=draw(vectors(widths)),
        pairs=np.array(pairs, np.int32),
        weights=np.array(weights, np.float32),
        deadline_s=draw(st.none() | st.floats(0, 1e6)),
        reply_runs=runs_of(replies),
        reply_rotation=draw(st.sampled_from(ROTATIONS)),
        residents=residents,
    )


@st.composite
def results(draw):
    widths = draw(st.lists(st.sampled_from(ROW_WIDTHS), min_size=1, max_size=6))
    return protocol.Result(
        id=draw(st.integers(0, 2**64 - 1)),
        output=draw(vectors(widths)),
        compute_s=draw(st.floats(0, 1e6)),
        queue_s=draw(st.floats(0, 1e6)),
        short=True,
    )


def same_vectors(got, sent):
    np.testing.assert_array_equal(protocol.plain(got), protocol.plain(sent))


@given(requests())
def test_a_request_arrives_as_it_was_sent(sent):
    frames = protocol.encode(sent)
    assert len(frames) == 2
    got = protocol.decode(frames, HOSTED)
    assert got.id == sent.id % 2**ID_BITS
    assert (got.layer, got.reply_runs, got.residents) == (
        sent.layer,
        sent.reply_runs,
        sent.residents,
    )
    assert got.reply_rotation == sent.reply_rotation
    np.testing.assert_array_equal(got.pairs, sent.pairs)
    np.testing.assert_array_equal(got.weights, sent.weights)
    same_vectors(got.hidden, sent.hidden)
    assert (got.deadline_s is None) == (sent.deadline_s is None)
    if sent.deadline_s is not None:
        assert sent.deadline_s <= got.deadline_s <= 1.01 * sent.deadline_s + 1e-40


@given(results())
def test_a_result_arrives_as_it_was_sent(sent):
    got = protocol.decode(protocol.encode(sent), HOSTED)
    same_vectors(got.output, sent.output)
    for name in ("compute_s", "queue_s"):
        assert 0.99 * getattr(sent, name) - 1e-40 <= getattr(got, name) <= getattr(sent, name)


@st.composite
def mutated(draw):
    """Frames of a message with bytes flipped, cut, repeated, or added."""
    frames = [bytearray(frame) for frame in protocol.encode(draw(requests() | results()))]
    for _ in range(draw(st.integers(1, 4))):
        frame = frames[draw(st.integers(0, len(frames) - 1))]
        cut = draw(st.integers(0, min(len(frame), 24)))
        change = draw(st.sampled_from(["flip", "flip", "cut", "insert", "drop", "add"]))
        if change == "flip" and cut < len(frame):
            frame[cut] = draw(st.integers(0, 255))
        elif change == "cut":
            del frame[cut:]
        elif change == "insert":
            frame[cut:cut] = draw(st.binary(max_size=9))
        elif change == "drop" and len(frames) > 1:
            frames.pop()
        elif change == "add":
            frames.append(bytearray(draw(st.binary(max_size=9))))
    return [bytes(frame) for frame in frames]


def decodes_or_refuses(frames):
    try:
        message = protocol.decode(frames, HOSTED)
    except ProtocolError as refusal:
        message = protocol.failure_of(refusal, request_id=refusal.request_id)
    assert protocol.encode(message)
    for name in ("hidden", "output"):
        if (rows := getattr(message, name, None)) is not None:
            assert protocol.plain(rows).shape == rows.shape
    if isinstance(message, protocol.Apply):
        assert message.pairs[:, 0].max() < len(message.hidden)
        assert {*message.pairs[:, 1].tolist()} <= {*HOSTED.experts_of(message.layer)}
        assert np.isfinite(message.weights).all()


@settings(max_examples=500)
@given(mutated())
def test_mutated_frames_raise_only_protocol_error(frames):
    decodes_or_refuses(frames)


@settings(max_examples=400)
@given(st.binary(max_size=40), st.binary(max_size=60))
def test_any_bytes_raise_only_protocol_error(header, vectors):
    decodes_or_refuses([bytes((header[0] & 0x1F,)) + header[1:] if header else b"", vectors])
