"""decode∘encode is the identity, and decode raises only ProtocolError for any bytes."""

import msgpack
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from siftmoe.agent.errors import ErrorCode, ProtocolError
from siftmoe.agent.wire import protocol
from siftmoe.agent.wire.work import ApplyHeader
from siftmoe.models.vectors.packing import row_bits
from siftmoe.models.vectors.quantise import ROTATIONS, WIDTHS
from siftmoe.models.vectors.records import ROW_WIDTHS, to_records

IDS = st.integers(0, 2**64 - 1)
TEXT = st.text(max_size=40)
SECONDS = st.floats(0, 1e6, allow_nan=False)
FIGURES = st.dictionaries(TEXT, st.floats(allow_nan=False, allow_infinity=False), max_size=5)
SOUND_SECONDS = st.floats(0, 60)
HERTZ = st.floats(1, 1e12)
BURSTS = st.builds(
    protocol.Burst,
    carrier_hz=HERTZ,
    sample_rate_hz=HERTZ,
    tx_attenuation_db=st.floats(0, 89.75),
    rx_gain_db=st.floats(-3, 71),
    count=st.integers(1, 30),
    cfo_hz=st.none() | st.floats(-1e6, 1e6),
    own_sequence=st.booleans(),
)
SOURCES = st.sampled_from(["measured", "derived", "modelled"])
PILOTS = st.builds(
    protocol.PilotPower,
    tx_power_w=st.floats(1e-20, 1e6),
    tx_power_std_db=st.floats(0, 100),
    source=SOURCES,
    sequence=st.integers(0, 2**32 - 1),
    serial=st.text(max_size=64),
)
HEARD = st.builds(
    protocol.Heard,
    gain=st.floats(1e-30, 1e6),
    gain_std=st.floats(0, 1e6),
    noise_psd=st.floats(1e-30, 1.0),
    bandwidth_hz=HERTZ,
    age_s=SOUND_SECONDS,
    snr=st.floats(0, 1e15),
    cfo_hz=st.floats(-1e9, 1e9),
    cfo_std_hz=st.floats(0, 1e9),
    response=st.integers(0, 200).map(lambda n: bytes(8 * n)),
    gain_source=SOURCES,
    noise_source=SOURCES,
    noise_psd_std=st.floats(0, 1.0),
    rx_gain_db=st.none() | st.floats(-10, 77),
    reason=st.text(max_size=100),
)
DTYPES = st.sampled_from([np.dtype(np.float32), np.dtype(np.float16)])
SHAPES = st.tuples(st.integers(1, 5), st.integers(1, 9))


@st.composite
def matrices(draw):
    dtype = draw(DTYPES)
    # Any bits, NaN and infinity among them: hidden vectors pass as they are.
    return draw(hnp.arrays(dtype, draw(SHAPES)))


@st.composite
def packs(draw):
    """Rows at mixed widths; any codes, and steps that are positive and finite."""
    size = draw(st.integers(1, 9))
    runs = []
    for width in draw(st.lists(st.sampled_from(ROW_WIDTHS), min_size=1, max_size=4)):
        rows = draw(st.integers(1, 3))
        shape = to_records(np.zeros((rows, size), np.float32), width).shape
        records = draw(hnp.arrays(np.uint8, shape))
        if width in WIDTHS:
            steps = draw(hnp.arrays(np.uint16, (rows, 1), elements=st.integers(1, 0x7F7F)))
            records[:, :2] = steps.astype("<u2").view(np.uint8)
        runs.append((width, records))
    return protocol.packed(runs, size=size, rotation=draw(st.sampled_from(ROTATIONS)))


@st.composite
def applies(draw):
    hidden = draw(matrices() | packs())
    rows = st.integers(0, len(hidden) - 1)
    pairs = draw(st.lists(st.tuples(rows, st.integers(0, 65_535)), min_size=1, max_size=8))
    weight = st.floats(width=32, allow_nan=False, allow_infinity=False)
    weights = draw(st.lists(weight, min_size=len(pairs), max_size=len(pairs)))
    milliseconds = draw(st.none() | st.integers(0, 10**7))
    return protocol.Apply(
        id=draw(IDS),
        layer=draw(st.integers(0, 4_095)),
        hidden=hidden,
        pairs=np.array(pairs, np.int32),
        weights=np.array(weights, np.float32),
        deadline_s=None if milliseconds is None else milliseconds / 1e3,
        reply_width=draw(st.none() | st.sampled_from(ROW_WIDTHS)),
        reply_rotation=draw(st.sampled_from(ROTATIONS)),
    )


MESSAGES = st.one_of(
    st.builds(protocol.Hello, id=IDS, v=st.just(1)),
    st.builds(protocol.Stats, id=IDS, v=st.just(1)),
    st.builds(
        protocol.HelloReply,
        id=IDS,
        name=TEXT,
        version=TEXT,
        model_hash=TEXT,
        residents=st.lists(st.tuples(st.integers(0, 60), st.integers(0, 400))).map(tuple),
        provider=TEXT,
        hidden_size=st.integers(1, 65_536),
        radio=st.none() | TEXT,
        dtype=st.sampled_from(["float32", "float16"]),
        memory_bytes=st.integers(0, 2**40),
        widths=st.lists(st.integers(1, 64), max_size=9).map(tuple),
        v=st.just(1),
    ),
    st.builds(
        protocol.StatsReply,
        id=IDS,
        counters=FIGURES,
        power_w=FIGURES,
        temperature_c=FIGURES,
        v=st.just(1),
    ),
    st.builds(
        protocol.Sound,
        id=IDS,
        role=st.sampled_from(["transmit", "listen"]),
        start_s=SOUND_SECONDS,
        duration_s=SOUND_SECONDS,
        burst=BURSTS,
        pilot=st.none() | PILOTS,
        v=st.just(1),
    ),
    st.builds(
        protocol.SoundReply, id=IDS, outcome=st.just("transmitting"), pilot=PILOTS, v=st.just(1)
    ),
    st.builds(protocol.SoundReply, id=IDS, outcome=st.just("silent"), v=st.just(1)),
    st.builds(protocol.SoundReply, id=IDS, outcome=st.just("heard"), heard=HEARD, v=st.just(1)),
    st.builds(
        protocol.Failure, id=IDS, code=st.sampled_from(ErrorCode), message=TEXT, v=st.just(1)
    ),
    applies(),
    st.builds(
        protocol.Result, id=IDS, output=matrices() | packs(), compute_s=SECONDS, queue_s=SECONDS
    ),
)


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
