"""Calibration files round-trip for any entries; uncertainty never shrinks with distance."""

from __future__ import annotations

import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from siftmoe.radio.channel.link import Source
from siftmoe.radio.power.calibration import LevelEntry, PairEntry
from siftmoe.radio.power.store import CalibrationStore

SERIALS = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,20}", fullmatch=True)
NOTES = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
TEMPERATURES = st.none() | st.floats(-60.0, 150.0)
RATE_HZ = 2e6
SHARED = {
    "sample_rate_hz": st.sampled_from([1e6, RATE_HZ, 20e6, 30.72e6]),
    "carrier_hz": st.floats(1e6, 1e11),
    "std_db": st.floats(0.0, 20.0, exclude_min=True),
    "measured_at": NOTES,
    "method": NOTES,
}
LEVELS = st.builds(
    LevelEntry,
    serial=SERIALS,
    path=st.sampled_from(["transmit", "receive"]),
    full_scale_dbm=st.floats(-60.0, 60.0),
    temperature_c=TEMPERATURES,
    **SHARED,
)
PAIRS = st.builds(
    PairEntry,
    transmitter=SERIALS,
    receiver=SERIALS,
    difference_db=st.floats(-120.0, 120.0),
    transmitter_c=TEMPERATURES,
    receiver_c=TEMPERATURES,
    **SHARED,
)


@settings(max_examples=40)
@given(st.lists(LEVELS, max_size=4), st.lists(PAIRS, max_size=4))
def test_what_is_saved_is_loaded(levels: list[LevelEntry], pairs: list[PairEntry]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        store = CalibrationStore(
            path=Path(folder, "calibration.toml"), levels=tuple(levels), pairs=tuple(pairs)
        )
        store.save()
        assert CalibrationStore.load(store.path) == store


@given(LEVELS, st.floats(-2e8, 2e8), TEMPERATURES, st.floats(0.0, 1.0))
def test_uncertainty_never_shrinks_with_distance(
    entry: LevelEntry, offset_hz: float, temperature_c: float | None, nearer: float
) -> None:
    far = entry.std_at(entry.carrier_hz + offset_hz, temperature_c, sample_rate_hz=RATE_HZ)
    near = entry.std_at(
        entry.carrier_hz + nearer * offset_hz, temperature_c, sample_rate_hz=RATE_HZ
    )
    if far is not None:
        assert near is not None
        assert entry.std_db <= near <= far * (1 + 1e-12)


@given(LEVELS, st.floats(1e6, 1e11), TEMPERATURES)
def test_a_reference_is_measured_exactly_where_an_entry_holds(
    entry: LevelEntry, carrier_hz: float, temperature_c: float | None
) -> None:
    store = CalibrationStore(path=Path("unused"), levels=(entry,))
    reference = store.unit(entry.serial).reference(
        carrier_hz=carrier_hz, sample_rate_hz=RATE_HZ, temperature_c=temperature_c
    )
    sent = entry.path == "transmit"
    source = reference.source if sent else reference.receiver_source
    other = reference.receiver_source if sent else reference.source
    holds = entry.std_at(carrier_hz, temperature_c, sample_rate_hz=RATE_HZ) is not None
    assert (source is Source.MEASURED) == holds
    assert other is Source.DERIVED
