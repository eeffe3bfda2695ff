"""Layout and spectrum of the burst."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

from siftmoe.radio.sounding import pilots
from siftmoe.radio.sounding.signal import frame


def test_burst_has_the_documented_layout():
    burst = pilots.burst_waveform()
    assert burst.shape == (1440,)
    first, second = pilots.sync_segments()
    np.testing.assert_array_equal(
        burst[first.start : first.start + 128], burst[second.start : second.start + 128]
    )
    segments = (first, *pilots.pilot_segments())
    for segment in segments:
        stop = segment.start + segment.length
        prefix = burst[segment.start - pilots.PREFIX : segment.start]
        np.testing.assert_allclose(prefix, burst[stop - pilots.PREFIX : stop], atol=1e-12)
    assert segments[-1].start + segments[-1].length == pilots.BURST_LENGTH


@pytest.mark.parametrize("segment", [*pilots.sync_segments(), *pilots.pilot_segments()])
def test_segments_have_unit_power_and_stay_in_their_band(segment):
    body = pilots.burst_waveform()[segment.start : segment.start + segment.length]
    assert np.mean(np.abs(body) ** 2) == pytest.approx(1.0)
    spectrum = np.abs(np.fft.fft(body)) ** 2
    carriers = np.fft.fftfreq(segment.length, d=1.0 / 256)  # in units of the pilots' spacing
    outside = (np.abs(carriers) > 100) | (carriers == 0)
    assert spectrum[outside].max() < 1e-20 * spectrum.max()


def test_both_ends_of_a_link_agree_on_the_symbols_for_ever():
    # Changing this breaks the air interface between versions.
    symbols = np.concatenate([pilots.sync_symbols(), pilots.pilot_symbols()])
    signs = np.concatenate([symbols.real > 0, symbols.imag > 0])
    assert (
        hashlib.sha256(np.packbits(signs).tobytes()).hexdigest()
        == "01f6b72a54074a33f47b553e4626a355c26b63873913d1d5a2327f908b1d727f"
    )


def test_mean_power_and_peak_are_what_the_back_off_is_made_for():
    assert np.mean(np.abs(pilots.burst_waveform()) ** 2) == pytest.approx(1.0, abs=0.023)
    assert 10 * np.log10(pilots.peak_to_average()) < 6.5


def test_sequences_differ_by_transmitter_and_stay_within_full_scale():
    numbers = {pilots.sequence_of(f"unit {n}") for n in range(50)}
    assert len(numbers) == 50
    for number in numbers:
        assert np.abs(frame(number).view(float)).max() < 0.85
        assert np.mean(np.abs(pilots.burst_waveform(number)) ** 2) == pytest.approx(1, abs=0.05)
    one, other = (pilots.sync_waveform(number) for number in sorted(numbers)[:2])
    assert abs(np.vdot(one, other)) < 0.3 * 256


def test_a_sequence_is_the_same_on_every_machine():
    assert pilots.sequence_of("104473541196000000") == 3906107056
