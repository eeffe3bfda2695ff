"""decode∘encode is the identity, and decode raises only ProtocolError for any bytes."""

import msgpack
import numpy as np
from drawn_messages import MESSAGES, SHAPES, TEXT, packs
from hypothesis import given, settings
from hypothesis import strategies as st

from siftmoe.agent.errors import ProtocolError
from siftmoe.agent.wire import protocol
from siftmoe.agent.wire.work import ApplyHeader
from siftmoe.models.vectors.packing import row_bits


def fields(message):
    """Its fields by value; arrays by dtype, shape and bits, so that NaN equals itself."""
    values = {name: getattr(message, name) for name in message.__struct_fields__}
    return type(message), {name: by_value(value) for name, value in values.items()}


def by_value(value):
    if isinstance(value, np.ndarray):
        return str(value.dtype), value.shape, value.tobytes()
    if isinstance(value, protocol.Packed):
        return value.shape, value.runs, value.rotation, bytes(value.data)
    return value


@given(MESSAGES)
def test_decode_inverts_encode(message):
    assert fields(protocol.decode(protocol.encode(message))) == fields(message)


@given(MESSAGES)
def test_the_header_is_a_plain_msgpack_map(message):
    """Another implementation, the msgpack library, reads it and sees the same id."""
    header = msgpack.unpackb(protocol.encode(message)[0])
    assert header["v"] == 1
    assert header["id"] == message.id
    assert header["kind"] in {"hello", "apply", "result", "sound", "stats", "error"}


@given(MESSAGES, st.dictionaries(TEXT.map(lambda t: "x-" + t), st.integers() | TEXT, max_size=3))
def test_unknown_keys_are_ignored(message, extra):
    frames = protocol.encode(message)
    extra = {k: v for k, v in extra.items() if isinstance(v, str) or abs(v) < 2**63}
    header = msgpack.packb({**extra, **msgpack.unpackb(frames[0])})
    assert fields(protocol.decode([header, *frames[1:]])) == fields(message)


@st.composite
def mutated(draw):
    """A message's frames with bytes flipped, cut, repeated, or frames moved about."""
    frames = [bytearray(frame) for frame in protocol.encode(draw(MESSAGES))]
    for _ in range(draw(st.integers(1, 4))):
        place = draw(st.integers(0, len(frames) - 1))
        frame = frames[place]
        cut = draw(st.integers(0, len(frame)))
        change = draw(st.sampled_from(["flip", "cut", "insert", "drop", "swap", "add"]))
        if change == "flip" and cut < len(frame):
            frame[cut] = draw(st.integers(0, 255))
        elif change == "cut":
            del frame[cut:]
        elif change == "insert":
            frame[cut:cut] = draw(st.binary(max_size=9))
        elif change == "drop" and len(frames) > 1:
            del frames[place]
        elif change == "swap":
            frames[0], frames[place] = frames[place], frames[0]
        elif change == "add":
            frames.append(bytearray(draw(st.binary(max_size=9))))
    return [bytes(frame) for frame in frames]


def decoded(frames):
    """Return the message, or why it is none."""
    try:
        return protocol.decode(frames)
    except ProtocolError as refusal:
        return refusal


def decodes_or_refuses(frames):
    message = decoded(frames)
    if isinstance(message, ProtocolError):
        message = protocol.failure_of(message, request_id=message.request_id)
    # What came out can be sent: a message as it is, a refusal as an answer.
    assert protocol.encode(message)
    # And what is packed can be unpacked, whatever it holds.
    for name in ("hidden", "output"):
        vectors = getattr(message, name, None)
        if vectors is not None:
            assert protocol.plain(vectors).shape == vectors.shape


@settings(max_examples=600)
@given(mutated())
def test_mutated_frames_raise_only_protocol_error(frames):
    decodes_or_refuses(frames)


@settings(max_examples=300)
@given(st.lists(st.binary(max_size=80), max_size=5))
def test_any_bytes_raise_only_protocol_error(frames):
    decodes_or_refuses(frames)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | TEXT | st.binary(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=8,
)
OTHERS = ("kind", "compute_s", "queue_s", "code", "message", "name", "d", "role")
KEYS = st.sampled_from([*ApplyHeader.__struct_encode_fields__, *OTHERS])
KINDS = st.sampled_from(["hello", "apply", "result", "sound", "stats", "error"])


@settings(max_examples=400)
@given(
    st.dictionaries(KEYS, JSON),
    KINDS,
    st.lists(st.binary(max_size=32), max_size=4),
    st.booleans(),
    st.booleans(),
)
def test_any_header_map_raises_only_protocol_error(header, kind, payload, sane, packed):
    header["v"] = 1
    header["kind"] = kind
    if sane:
        header.update(id=7, layer=0, dtype="float32", shape=[1, 2])
    if packed:
        header["dtype"] = "packed"
    decodes_or_refuses([msgpack.packb(header), *payload])


RUNS = st.lists(st.tuples(st.integers(-1, 70), st.integers(-1, 5)), max_size=4)
STEPS = st.sampled_from([0, 1, 0x3C00, 0x7F7F, 0x7F80, 0x7FC0, 0x8000, 0xBC00, 0xFFFF])


@settings(max_examples=300)
@given(packs(), st.none() | RUNS, st.none() | SHAPES, st.none() | STEPS, st.integers(-3, 3))
def test_a_pack_that_is_not_what_it_says_raises_only_protocol_error(pack, runs, shape, step, more):
    """Other widths, another shape, a wrong step, a few bytes too many or too few."""
    result = protocol.Result(id=9, output=pack, compute_s=0.0, queue_s=0.0)
    first, data = protocol.encode(result)
    header, data = msgpack.unpackb(first), bytearray(data)
    if runs is not None:
        header["widths"] = runs
    if shape is not None:
        header["shape"] = shape
    if step is not None:
        data[:2] = step.to_bytes(2, "little")
    data = data[:more] if more < 0 else data + bytes(more)
    frames = [msgpack.packb(header), bytes(data)]
    message = decoded(frames)
    if isinstance(message, ProtocolError):
        assert message.request_id == 9
        return
    assert protocol.plain(message.output).shape == message.output.shape
    bits = sum(count * row_bits(message.output.shape[1], of) for of, count in message.output.runs)
    assert bits == 8 * len(data)
