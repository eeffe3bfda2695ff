"""Messages of the protocol drawn at random, for Hypothesis."""

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from siftmoe.agent.errors import ErrorCode
from siftmoe.agent.wire import protocol
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
