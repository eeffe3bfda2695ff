"""Segmentation and checksums."""

import numpy as np
import pytest

from siftmoe.radio.modem.coding.blocks import MAX_PAYLOAD, segment


@pytest.mark.parametrize("length", [1, 2, 63, 64, 1052, 1053, 4096, 8192, 65535, MAX_PAYLOAD])
@pytest.mark.parametrize("rate", [0.2, 0.5, 0.86])
def test_a_payload_survives_its_blocks(length, rate):
    payload = np.random.default_rng(length).bytes(length)
    cut = segment(length, rate)
    parts = [cut.bytes_of(cut.bits_of(payload, block)) for block in range(cut.count)]
    assert all(part is not None and len(part) == cut.block_bytes for part in parts)
    assert cut.join(parts) == payload
    assert cut.count * cut.block_bytes - length < cut.count
    assert len(cut.bits_of(payload, 0)) == cut.code.payload


def test_every_flipped_bit_is_noticed():
    cut = segment(40, 0.5)
    bits = cut.bits_of(bytes(range(40)), 0)
    for place in range(len(bits)):
        bits[place] ^= 1
        assert cut.bytes_of(bits) is None
        bits[place] ^= 1


def test_random_bits_are_no_block():
    cut = segment(20, 0.5)
    rng = np.random.default_rng(0)
    words = rng.integers(0, 2, (3000, cut.code.payload)).astype(np.uint8)
    assert all(cut.bytes_of(word) is None for word in words)


@pytest.mark.parametrize("fill", [0, 255])
def test_uniform_words_are_no_block(fill):
    cut = segment(100, 0.5)
    assert cut.bytes_of(np.full(cut.code.payload, fill & 1, np.uint8)) is None


def test_equal_bytes_become_balanced_bits():
    cut = segment(1000, 0.5)
    ones = cut.bits_of(bytes(1000), 0).mean()
    assert abs(ones - 0.5) < 4 * 0.5 / np.sqrt(8032)


@pytest.mark.parametrize("length", [0, -1, MAX_PAYLOAD + 1])
def test_lengths_out_of_range_are_refused(length):
    with pytest.raises(ValueError, match="1 to 65536 bytes"):
        segment(length, 0.5)
