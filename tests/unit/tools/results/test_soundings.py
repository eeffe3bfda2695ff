"""Links in the report: spread over the exchanges, and the axis of the frequency response."""

from __future__ import annotations

import numpy as np
import pytest

from siftmoe.radio.sounding import pilots
from siftmoe.tools.plotting.sounding import sounding_figures
from siftmoe.tools.results.soundings import LinkHistory, history_rows


def link(exchanges: int) -> LinkHistory:
    ones = np.ones(exchanges)
    return LinkHistory(
        agent="a",
        direction="up",
        time_s=np.arange(exchanges, dtype=float),
        gain=1e-7 * (1.0 + np.arange(exchanges)),
        gain_std=1e-9 * ones,
        snr=100.0 * ones,
        cfo_hz=28608.0 + 2.0 * np.arange(exchanges),
        missed_s=np.array([]),
        reason="",
        response=np.ones(pilots.USED_CARRIERS, dtype=np.complex64),
        energy_j=1e-6,
        source="derived",
    )


def test_one_exchange_has_no_spread() -> None:
    header, (once, twice) = history_rows([link(1), link(2)])
    cells = dict(zip(header, once, strict=True))
    assert (cells["carrier offset"], cells["its spread"]) == ("28608 Hz", "-")
    assert cells["spread"] == "-"
    cells = dict(zip(header, twice, strict=True))
    assert (cells["carrier offset"], cells["its spread"]) == ("28609 Hz", "1 Hz")
    assert cells["spread"] == "1.51 dB"


@pytest.mark.parametrize(
    ("sample_rate_hz", "label"),
    [(2e6, "frequency over the carrier, kHz"), (None, "carrier, number")],
)
def test_the_response_is_drawn_over_frequency(sample_rate_hz: float | None, label: str) -> None:
    svg = sounding_figures([link(2)], sample_rate_hz=sample_rate_hz)["response.svg"]
    assert label in svg
