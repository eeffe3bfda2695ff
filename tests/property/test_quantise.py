"""Quantised rows: the bound of the error, and independence of the other rows."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from siftmoe.agent.wire.packed import Packed, pack_rows, plain, plain_all
from siftmoe.models.vectors import quantise as q
from siftmoe.models.vectors.packing import pack, packed_bytes, row_bits, unpack

WIDTHS = st.sampled_from(q.WIDTHS)
ROTATIONS = st.sampled_from(q.ROTATIONS)
FINITE = st.floats(width=32, allow_nan=False, allow_infinity=False)


def rows_of(elements, *, most=6, size=40):
    shape = st.tuples(st.integers(1, most), st.integers(1, size))
    return shape.flatmap(lambda s: hnp.arrays(np.float32, s, elements=elements))


@st.composite
def codes(draw):
    width = draw(WIDTHS)
    shape = draw(st.tuples(st.integers(0, 5), st.integers(1, 70)))
    return width, draw(hnp.arrays(np.uint8, shape, elements=st.integers(0, 2**width - 1)))


@given(codes())
def test_unpack_inverts_pack(drawn):
    width, given_codes = drawn
    packed = pack(given_codes, width)
    size = given_codes.shape[1]
    assert packed.shape == (len(given_codes), packed_bytes(size, width))
    np.testing.assert_array_equal(unpack(packed, width, size=size), given_codes)


@given(WIDTHS, rows_of(FINITE))
def test_steps_are_positive_and_finite_and_codes_are_in_range(width, rows):
    got, steps = q.quantise(rows, width)
    values = q.step_values(steps)
    assert (values > 0).all()
    assert np.isfinite(values).all()
    assert got.dtype == np.uint8
    assert got.max(initial=0) < 1 << width


# beyond 2^126 the image of the largest entry, half a step above it, may be none of float32's
@given(st.sampled_from([5, 6, 8]), rows_of(st.floats(-(2.0**126), 2.0**126, width=32)))
def test_by_the_largest_entry_no_entry_is_off_by_more_than_half_a_step(width, rows):
    got, steps = q.quantise(rows, width)
    values = q.step_values(steps)[:, None].astype(np.float64)
    error = np.abs(q.reconstruct(got, steps, width).astype(np.float64) - rows)
    assert (error <= values / 2 * (1 + 2.0**-14)).all()


@given(st.sampled_from([2, 3, 4]), rows_of(FINITE))
def test_below_five_bits_the_error_is_no_larger_than_the_rows_largest_entry(width, rows):
    got, steps = q.quantise(rows, width)
    error = np.abs(q.reconstruct(got, steps, width).astype(np.float64) - rows)
    largest = np.abs(rows).max(axis=1).astype(np.float64)
    bound = np.maximum(largest, q.step_values(steps)) * (1 + 1e-2)
    assert (error.max(axis=1) <= bound).all()


@given(rows_of(st.floats(-1e3, 1e3, width=32), size=100))
def test_a_rotation_keeps_every_norm_and_is_undone(rows):
    turned = q.rotate(rows, "hadamard")
    size = np.linalg.norm(rows.astype(np.float64), axis=1)
    norm = np.linalg.norm(turned.astype(np.float64), axis=1)
    np.testing.assert_allclose(norm, size, rtol=1e-4, atol=1e-42)  # float32 ends at 1.4e-45
    back = q.rotate_back(turned, "hadamard")
    assert np.abs(back - rows).max() <= 1e-5 * max(1.0, float(size.max()))


ANY = st.floats(width=32)


@settings(max_examples=200)
@given(st.sampled_from([*q.WIDTHS, 16, 32]), ROTATIONS, rows_of(ANY))
def test_a_row_does_not_depend_on_those_it_travels_with(width, rotation, rows):
    """Nor on what cannot be quantised among them."""
    together = pack_rows(rows, width, rotation=rotation)
    alone = [pack_rows(rows[[i]], width, rotation=rotation) for i in range(len(rows))]
    one_by_one = np.concatenate([plain(one) for one in alone])
    np.testing.assert_array_equal(plain(together).view(), one_by_one)
    at_once = plain_all([*alone, together])
    np.testing.assert_array_equal(np.concatenate(at_once[:-1]), one_by_one)
    np.testing.assert_array_equal(at_once[-1], one_by_one)
    bits = sum(8 * one.nbytes for one in alone)
    assert 8 * together.nbytes == bits
    if isinstance(together, Packed):
        assert bits == sum(count * row_bits(rows.shape[1], of) for of, count in together.runs)


@given(WIDTHS, ROTATIONS, rows_of(st.floats(-1e4, 1e4, width=32)))
def test_packed_rows_are_the_round_trip(width, rotation, rows):
    arrived = plain(pack_rows(rows, width, rotation=rotation))
    np.testing.assert_array_equal(arrived, q.round_trip(rows, width, rotation=rotation))


@given(WIDTHS, rows_of(ANY))
def test_rows_that_are_not_finite_are_refused_with_the_first_of_them(width, rows):
    bad = ~np.isfinite(rows).all(axis=1)
    if not bad.any():
        q.quantise(rows, width)
        return
    with pytest.raises(q.NotFinite) as caught:
        q.quantise(rows, width)
    assert caught.value.row == int(bad.argmax())
