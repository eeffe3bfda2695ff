"""OFDM symbols, preamble, header and layout."""

from dataclasses import fields, replace
from itertools import pairwise

import numpy as np
import pytest

from siftmoe.radio.errors import HeaderInvalid
from siftmoe.radio.modem.framing.carriers import NUMEROLOGIES, PREFIX
from siftmoe.radio.modem.framing.header import ALL_BLOCKS, Header, header_cells, parse
from siftmoe.radio.modem.framing.layout import (
    blocks_in,
    layout_of,
    mask_of,
    with_best_numerology,
)
from siftmoe.radio.modem.framing.preamble import preamble, preamble_length
from siftmoe.radio.modem.symbols.schemes import SCHEMES
from siftmoe.radio.modem.transmitter import Format, announce, burst, retransmission
from siftmoe.radio.sounding import pilots


@pytest.mark.parametrize("numerology", NUMEROLOGIES, ids=lambda n: str(n.fft_size))
def test_modulation_and_its_inverse(numerology):
    rng = np.random.default_rng(0)
    cells = np.exp(2j * np.pi * rng.random((3, numerology.data_cells))).astype(np.complex64)
    samples = numerology.modulate(cells)
    assert np.mean(np.abs(samples) ** 2) == pytest.approx(1.0, abs=0.02)
    symbols = samples.reshape(3, numerology.symbol_length)
    assert np.array_equal(symbols[:, :PREFIX], symbols[:, -PREFIX:])
    received = numerology.demodulate(symbols[:, PREFIX:])
    assert np.allclose(received[:, numerology.data_places], cells, atol=1e-5)
    assert np.allclose(received[:, numerology.pilot_places], numerology.pilots, atol=1e-5)


@pytest.mark.parametrize("numerology", NUMEROLOGIES, ids=lambda n: str(n.fft_size))
def test_all_numerologies_occupy_the_band_of_the_preamble(numerology):
    share = np.abs(numerology.carriers).max() / numerology.fft_size
    assert share == pilots.carriers().max() / pilots.FFT_SIZE
    assert 0 not in numerology.carriers
    places = np.concatenate([numerology.data_places, numerology.pilot_places])
    assert sorted(places.tolist()) == list(range(numerology.used))


@pytest.mark.parametrize("count", [0, 1, 4])
def test_the_preamble_is_the_start_of_a_sounding_burst(count):
    samples = preamble(7, count)
    assert len(samples) == preamble_length(count)
    assert np.allclose(samples, pilots.burst_waveform(7)[: len(samples)], atol=1e-6)
    for wrong in (-1, 5):
        with pytest.raises(ValueError, match="0 to 4 pilot symbols"):
            Format(pilot_symbols=wrong)


def test_a_header_survives():
    rng = np.random.default_rng(0)
    limits = {"length": 65537, "scheme": len(SCHEMES), "redundancy": 4, "numerology": 3}
    limits |= {"destination": 256, "source": 256, "sequence": 65536, "kind": 8, "blocks": 65536}
    assert set(limits) == {f.name for f in fields(Header)}
    for _ in range(50):
        values = {name: int(rng.integers(0, limit)) for name, limit in limits.items()}
        header = Header(**values)
        assert parse(header.bits()) == header
    extreme = Header(**{name: limit - 1 for name, limit in limits.items()})
    assert parse(extreme.bits()) == extreme


def test_every_flipped_bit_of_a_header_is_noticed():
    bits = Header(length=100, scheme=3, sequence=9).bits()
    for place in range(len(bits)):
        bits[place] ^= 1
        with pytest.raises(HeaderInvalid, match="checksum"):
            parse(bits)
        bits[place] ^= 1


@pytest.mark.parametrize(
    "values",
    [
        {"length": 65537},
        {"length": -1},
        {"length": 1, "scheme": len(SCHEMES)},
        {"length": 1, "numerology": 3},
        {"length": 1, "blocks": 0},
        {"length": 1, "redundancy": 4},
        {"length": 1, "sequence": 65536},
    ],
)
def test_impossible_headers_are_refused(values):
    with pytest.raises(ValueError, match="header"):
        Header(**values)


@pytest.mark.parametrize("field", ["length", "scheme", "numerology", "version"])
def test_a_header_with_a_valid_checksum_and_an_impossible_field_is_refused(field, monkeypatch):
    """As another version of the air interface, or chance, may send it."""
    from siftmoe.radio.modem.framing import header as module

    big = {"length": 70000, "scheme": 31, "numerology": 3, "version": 5}[field]
    header = Header(length=5)
    if field == "version":
        monkeypatch.setattr(module, "VERSION", big)
        bits = header.bits()
        monkeypatch.undo()
    else:
        object.__setattr__(header, field, big)
        bits = header.bits()
    with pytest.raises(HeaderInvalid):
        parse(bits)


@pytest.mark.parametrize("length", [1, 100, 8192, 65536])
@pytest.mark.parametrize("index", [0, 5, 17])
@pytest.mark.parametrize("mask", [ALL_BLOCKS, 1, 0b101])
def test_blocks_share_all_cells_of_a_burst(length, index, mask):
    header = Header(length=length, scheme=index, blocks=mask, numerology=1)
    layout = layout_of(header)
    ranges = [layout.range_of(place) for place in range(len(layout.blocks))]
    assert ranges[0][0] == 0
    assert ranges[-1][1] == layout.cells
    assert all(a[1] == b[0] for a, b in pairwise(ranges))
    sizes = {end - begin for begin, end in ranges}
    assert max(sizes) - min(sizes) <= 1
    # Nominal rate at most, and not a whole symbol more than needed.
    bits = layout.segmentation.code.payload * len(layout.blocks)
    assert bits <= layout.cells * layout.scheme.efficiency
    assert bits > (layout.symbols - 1) * layout.numerology.data_cells * layout.scheme.efficiency


def test_masks_name_blocks():
    assert blocks_in(0b11, 20) == (0, 1, 16, 17)
    assert blocks_in(mask_of((3, 18)), 20) == (2, 3, 18, 19)
    with pytest.raises(ValueError, match="name none"):
        layout_of(Header(length=10, blocks=0b100))
    assert layout_of(Header(length=0)) is None


def test_the_numerology_with_the_fewest_samples_is_chosen():
    short, long = Header(length=64, scheme=2), Header(length=8192, scheme=10)
    assert with_best_numerology(short).numerology == 0
    assert with_best_numerology(long).numerology == 2
    assert with_best_numerology(long, longest=1).numerology == 1
    form = Format()
    for header in (short, long):
        lengths = [form.length(replace(header, numerology=n)) for n in range(3)]
        assert form.length(with_best_numerology(header)) == min(lengths)


def test_a_burst_has_the_length_and_the_power_that_are_announced():
    payload = bytes(range(256)) * 8
    for form in (Format(), Format(sequence=3, pilot_symbols=2)):
        header = announce(payload, scheme=5, source=1, destination=2)
        samples = burst(payload, header, form)
        assert len(samples) == form.length(header)
        assert np.mean(np.abs(samples) ** 2) == pytest.approx(1.0, rel=0.05)
    quiet = burst(payload, header, form, header_amplitude=0.5)
    begin, end = form.header_start, form.payload_start
    assert np.allclose(quiet[begin:end], 0.5 * samples[begin:end])
    assert np.array_equal(quiet[end:], samples[end:])


def test_bursts_that_cannot_be_sent_are_refused():
    header = announce(b"abc", scheme=2)
    with pytest.raises(ValueError, match="2 bytes, but the header says 3"):
        burst(b"ab", header)
    with pytest.raises(ValueError, match="header_amplitude must be positive"):
        burst(b"abc", header, header_amplitude=0.0)
    with pytest.raises(ValueError, match="exceeds 65536"):
        announce(bytes(65537), scheme=2)


def test_a_retransmission_carries_only_its_blocks():
    payload = bytes(8192)
    header = announce(payload, scheme=5, sequence=7)
    again = retransmission(header, redundancy=2, blocks=0b1001)
    assert (again.sequence, again.length, again.scheme) == (7, 8192, 5)
    assert layout_of(again).blocks == (0, 3)
    assert len(burst(payload, again)) < 0.4 * len(burst(payload, header))


def test_header_symbols_have_unit_power():
    assert np.allclose(np.abs(header_cells(Header(length=3))), 1.0, atol=1e-6)
