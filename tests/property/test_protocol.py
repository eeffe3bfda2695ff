"""decode∘encode is the identity, and no bytes whatever make decode raise but ProtocolError."""

import msgpack
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from siftmoe.agent import protocol
from siftmoe.agent.errors import ErrorCode, ProtocolError

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
)
PILOTS = st.builds(
    protocol.PilotPower,
    tx_power_w=st.floats(1e-20, 1e6),
    tx_power_std_db=st.floats(0, 100),
    source=st.sampled_from(["measured", "derived", "modelled"]),
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
)
DTYPES = st.sampled_from([np.dtype(np.float32), np.dtype(np.float16)])
SHAPES = st.tuples(st.integers(1, 5), st.integers(1, 9))


@st.composite
def matrices(draw):
    dtype = draw(DTYPES)
    # Any bits, NaN and infinity among them: hidden vectors pass as they are.
    return draw(hnp.arrays(dtype, draw(SHAPES)))


@st.composite
def applies(draw):
    hidden = draw(matrices())
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
    st.builds(protocol.Result, id=IDS, output=matrices(), compute_s=SECONDS, queue_s=SECONDS),
)


def fields(message):
    """Its fields by value; arrays by dtype, shape and bits, so that NaN equals itself."""
    values = {name: getattr(message, name) for name in message.__struct_fields__}
    return type(message), {
        name: (str(v.dtype), v.shape, v.tobytes()) if isinstance(v, np.ndarray) else v
        for name, v in values.items()
    }


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


def decodes_or_refuses(frames):
    try:
        message = protocol.decode(frames)
    except ProtocolError as refusal:
        message = protocol.failure_of(refusal, request_id=refusal.request_id)
    # What came out can be sent: a message as it is, a refusal as an answer.
    assert protocol.encode(message)


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
KEYS = st.sampled_from(
    [
        "v",
        "id",
        "kind",
        "layer",
        "dtype",
        "shape",
        "deadline_ms",
        "compute_s",
        "queue_s",
        "code",
        "message",
        "name",
        "d",
        "role",
    ]
)
KINDS = st.sampled_from(["hello", "apply", "result", "sound", "stats", "error"])


@settings(max_examples=400)
@given(
    st.dictionaries(KEYS, JSON), KINDS, st.lists(st.binary(max_size=32), max_size=4), st.booleans()
)
def test_any_header_map_raises_only_protocol_error(header, kind, payload, sane):
    header["v"] = 1
    header["kind"] = kind
    if sane:
        header.update(id=7, layer=0, dtype="float32", shape=[1, 2])
    decodes_or_refuses([msgpack.packb(header), *payload])
