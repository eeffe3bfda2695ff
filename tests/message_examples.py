"""A valid message or more of every kind; what is added to the protocol is added here.

`benchmarks.fuzz.protocol` mutates them, and tests/property/test_message_examples.py sees that no
kind and no dtype is missing.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from siftmoe.agent.errors import ErrorCode
from siftmoe.agent.wire.packed import Vectors, pack_rows
from siftmoe.agent.wire.protocol import (
    Apply,
    Burst,
    Failure,
    Heard,
    Hello,
    HelloReply,
    Message,
    PilotPower,
    Result,
    Sound,
    SoundReply,
    Stats,
    StatsReply,
)

#: Length of the hidden vectors, that of `bundles.shape_of`.
HIDDEN_SIZE: Final = 16
_RNG = np.random.default_rng(0)
_BURST = Burst(
    carrier_hz=2.45e9, sample_rate_hz=2e6, tx_attenuation_db=10.0, rx_gain_db=40.0, cfo_hz=-3e3
)
_PILOT = PilotPower(
    tx_power_w=1e-4,
    tx_power_std_db=3.0,
    source="derived",
    sequence=3906107056,
    serial="104473541196000000",
)
_HEARD = Heard(
    gain=1e-7,
    gain_std=1e-9,
    noise_psd=4e-21,
    bandwidth_hz=2e6,
    age_s=0.01,
    snr=100.0,
    cfo_hz=-3e3,
    cfo_std_hz=0.5,
    response=np.ones(6, dtype="<c8").tobytes(),
    gain_source="derived",
    noise_source="measured",
    noise_psd_std=2e-22,
    rx_gain_db=62.0,
    reason="the response does not fit a channel of 16 taps",
)


def _vectors(width: int, rows: int) -> Vectors:
    hidden = _RNG.standard_normal((rows, HIDDEN_SIZE)).astype(np.float32)
    return pack_rows(hidden, width, rotation="hadamard")


def _apply(width: int, rows: int) -> Apply:
    pairs = [(row, expert) for row in range(rows) for expert in range(2)]
    return Apply(
        id=3,
        layer=1,
        hidden=_vectors(width, rows),
        pairs=np.array(pairs, dtype=np.int32),
        weights=np.full(len(pairs), 0.5, dtype=np.float32),
        deadline_s=30.0,
        reply_width=width,
        reply_rotation="hadamard",
    )


def _result(width: int, rows: int) -> Result:
    return Result(id=4, output=_vectors(width, rows), compute_s=1e-3, queue_s=0.0)


EXAMPLES: Final[tuple[Message, ...]] = (
    Hello(id=1),
    HelloReply(
        id=1,
        name="a0",
        version="0.1.0+0123456789abcdef",
        model_hash="0" * 64,
        residents=((0, 0), (0, 1), (1, 0)),
        provider="CPUExecutionProvider",
        hidden_size=HIDDEN_SIZE,
        radio="ip:192.168.2.1",
        memory_bytes=1 << 20,
    ),
    Stats(id=2),
    StatsReply(
        id=2,
        counters={
            "uptime_s": 10.0,
            "queued": 1.0,
            "rows": 5.0,
            "board_energy_j": 4.0,
            "board_sampling_var_j2": 1e-4,
            "board_time_s": 9.0,
            "board_samples": 90.0,
            "board_longest_gap_s": 0.1,
            "board_gain_std": 0.01,
            "board_offset_std_w": 0.02,
            "idle_power_w": 2.0,
            "idle_power_std_w": 0.01,
        },
        power_w={"total = VDD_IN": 5.0, "VDD_IN": 5.0},
        temperature_c={"CPU-therm": 97.0},
        limit_c={"CPU-therm": 95.0},
        throttling={"cpu-throttle-alert": 1.0},
    ),
    Sound(id=5, role="transmit", burst=_BURST, duration_s=2.0),
    Sound(id=5, role="listen", burst=_BURST, start_s=0.1, pilot=_PILOT),
    SoundReply(id=5, outcome="transmitting", pilot=_PILOT),
    SoundReply(id=5, outcome="silent", on_air_s=0.5),
    SoundReply(id=5, outcome="heard", heard=_HEARD),
    *(Failure(id=6, code=code, message="no, and why") for code in ErrorCode),
    *(_apply(width, rows) for width in (32, 16, 8, 3) for rows in (1, 3)),
    *(_result(width, rows) for width in (32, 16, 8, 3) for rows in (1, 3)),
)
