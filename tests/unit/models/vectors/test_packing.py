import numpy as np
import pytest

from siftmoe.models.vectors.packing import FLOAT_WIDTHS, pack, packed_bytes, row_bits, unpack
from siftmoe.models.vectors.quantise import WIDTHS, quantise, reconstruct
from siftmoe.models.vectors.records import (
    ROW_WIDTHS,
    from_records,
    record_bytes,
    steps_of,
    to_records,
)

SIZES = (1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 33, 64, 127, 768)


def codes_of(width, rows, size, seed=0):
    return np.random.default_rng((seed, size)).integers(0, 1 << width, (rows, size), np.uint8)


def by_definition(row, width):
    """First code in the lowest bits: one long number, little-endian."""
    number = sum(int(code) << (width * place) for place, code in enumerate(row))
    return number.to_bytes(packed_bytes(len(row), width), "little")


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("size", SIZES)
def test_codes_lie_side_by_side_and_come_back(width, size):
    codes = codes_of(width, 3, size)
    packed = pack(codes, width)
    assert packed.shape == (3, -(-size * width // 8))
    assert [bytes(row) for row in packed] == [by_definition(row, width) for row in codes]
    np.testing.assert_array_equal(unpack(packed, width, size=size), codes)


@pytest.mark.parametrize("width", WIDTHS)
def test_strided_codes_and_a_place_to_write_are_taken(width):
    codes = codes_of(width, 4, 40)[:, ::2]
    whole = np.full((4, 100), 0xAA, np.uint8)
    place = whole[:, 2 : 2 + packed_bytes(20, width)]
    assert pack(codes, width, out=place) is place
    np.testing.assert_array_equal(place, pack(np.ascontiguousarray(codes), width))
    assert (whole[:, :2] == 0xAA).all()
    np.testing.assert_array_equal(unpack(place, width, size=20), codes)


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("size", [1, 3, 5, 13])
def test_bits_behind_the_last_code_mean_nothing(width, size):
    codes = codes_of(width, 2, size)
    packed = pack(codes, width).copy()
    spare = 8 * packed.shape[1] - size * width
    packed[:, -1] |= np.uint8(0xFF << (8 - spare) & 0xFF)
    np.testing.assert_array_equal(unpack(packed, width, size=size), codes)


@pytest.mark.parametrize("width", [1, 7, 9, 16])
def test_other_widths_are_refused(width):
    with pytest.raises(ValueError, match=f"got {width}"):
        pack(np.zeros((1, 8), np.uint8), width)
    with pytest.raises(ValueError, match=f"got {width}"):
        unpack(np.zeros((1, 8), np.uint8), width, size=8)


def test_the_bits_of_a_row_have_its_step_and_padding():
    assert row_bits(768, 4) == 768 * 4 + 16
    assert row_bits(5, 3) == 8 * 2 + 16
    assert [row_bits(10, width) for width in FLOAT_WIDTHS] == [160, 320]
    with pytest.raises(ValueError, match="got 7"):
        row_bits(10, 7)


@pytest.mark.parametrize("width", ROW_WIDTHS)
@pytest.mark.parametrize("size", [1, 7, 24, 129])
def test_a_record_has_the_rows_bits_and_is_the_row(width, size):
    rows = np.random.default_rng(size).standard_normal((5, size)).astype(np.float32)
    records = to_records(rows, width)
    assert records.dtype == np.uint8
    assert records.shape == (5, record_bytes(size, width))
    assert 8 * records.shape[1] == row_bits(size, width)
    back = from_records(records, width, size=size)
    assert back.dtype == np.float32
    one_by_one = [from_records(to_records(rows[[i]], width), width, size=size) for i in range(5)]
    np.testing.assert_array_equal(back, np.concatenate(one_by_one))
    if width in FLOAT_WIDTHS:
        expected = rows.astype(f"<f{width // 8}").astype(np.float32)
    else:
        expected = reconstruct(*quantise(rows, width), width)
    np.testing.assert_array_equal(back, expected)


def test_a_record_begins_with_its_step():
    records = to_records(np.array([[1.0, -0.5, 0.25]], np.float32), 8)
    assert steps_of(records).tolist() == [0x3C01]  # the next bfloat16 above 1 / 128
    assert records[0].tolist() == [0x01, 0x3C, 255, 64, 159]
