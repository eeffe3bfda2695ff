import math

import numpy as np
import pytest

from siftmoe.models.vectors import quantise as q

GAUSSIAN = tuple(q.GAUSSIAN_STEP)
#: Standard errors that a sample mean may be off: once in 16,000 times.
CONFIDENCE = 4.0


def normal(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def gaussian_error(step, width):
    """Mean squared error of a uniform mid-rise quantiser on a standard normal, by quadrature.

    Per level, Gauss-Legendre's rule on the cell; the cells at the ends reach to 12.
    """
    nodes, weights = np.polynomial.legendre.leggauss(60)
    half = 1 << (width - 1)
    error = 0.0
    for level in range(half):  # one side, twice
        low = level * step
        high = 12.0 if level == half - 1 else low + step
        x = (low + high) / 2 + (high - low) / 2 * nodes
        density = np.exp(-(x**2) / 2) / math.sqrt(2 * math.pi)
        error += (weights * density * (x - (low + step / 2)) ** 2).sum() * (high - low) / 2
    return 2.0 * error


@pytest.mark.parametrize("width", GAUSSIAN)
def test_the_gaussian_step_is_the_optimum_and_has_the_stated_error(width):
    step = q.GAUSSIAN_STEP[width]
    at = gaussian_error(step, width)
    assert q.GAUSSIAN_ERROR[width] == pytest.approx(at, rel=2e-3)
    # The minimum agrees to the last given digit.
    for other in (step - 2e-4, step + 2e-4):
        assert gaussian_error(other, width) > at
    assert gaussian_error(step * 1.1, width) > 1.005 * at
    assert gaussian_error(step * 0.9, width) > 1.005 * at


@pytest.mark.parametrize("width", GAUSSIAN)
@pytest.mark.parametrize("rotation", q.ROTATIONS)
def test_gaussian_rows_lose_what_the_theory_says(width, rotation):
    rows = normal(400, 512, seed=width)
    lost = (q.round_trip(rows, width, rotation=rotation) - rows) ** 2
    each = lost.mean(axis=1)  # rows are independent
    error = each.std() / math.sqrt(len(each))
    # A bfloat16 step is up to 2^-7 above the optimum, where the error is flat.
    low, high = q.GAUSSIAN_ERROR[width], gaussian_error(q.GAUSSIAN_STEP[width] * 1.008, width)
    assert low - CONFIDENCE * error < each.mean() < high + CONFIDENCE * error


@pytest.mark.parametrize("width", [w for w in q.WIDTHS if w not in GAUSSIAN])
def test_rows_by_their_largest_entry_lose_a_twelfth_of_the_step_squared(width):
    rows = np.random.default_rng(1).uniform(-1, 1, (400, 512)).astype(np.float32)
    codes, steps = q.quantise(rows, width)
    each = ((q.reconstruct(codes, steps, width) - rows) ** 2).mean(axis=1)
    expected = q.step_values(steps).astype(float) ** 2 / 12
    ratio = each / expected
    assert abs(ratio.mean() - 1) < CONFIDENCE * ratio.std() / math.sqrt(len(ratio))


@pytest.mark.parametrize("width", q.WIDTHS)
def test_a_short_spiky_row_is_not_clipped(width):
    """Two entries, one of them large: by the largest entry there is less error."""
    rows = np.array([[1.0, 0.01], [-3.0, 3.0]], np.float32)
    codes, steps = q.quantise(rows, width)
    error = np.abs(q.reconstruct(codes, steps, width) - rows)
    assert (error <= q.step_values(steps)[:, None] / 2 * (1 + 1e-6)).all()


@pytest.mark.parametrize("width", GAUSSIAN)
def test_few_large_entries_among_many_are_clipped(width):
    rows = normal(3, 4096)
    codes, _ = q.quantise(rows, width)
    _, counts = np.unique(codes, return_counts=True)
    assert len(counts) == 1 << width
    assert np.abs(q.round_trip(rows, width, rotation="none")).max() < np.abs(rows).max()


@pytest.mark.parametrize("width", q.WIDTHS)
def test_zeros_come_back_as_good_as_zero(width):
    codes, steps = q.quantise(np.zeros((2, 5), np.float32), width)
    assert (steps > 0).all()
    assert np.abs(q.reconstruct(codes, steps, width)).max() < 1e-27


@pytest.mark.parametrize("width", q.WIDTHS)
@pytest.mark.parametrize("size", [3e38, 1e25, 1e18, 1e-14, 1e-18, 1e-25])
def test_huge_and_tiny_rows_keep_their_shape(width, size):
    rows = normal(4, 512)
    rows /= np.abs(rows).max()
    scaled = rows * np.float32(size)
    codes, steps = q.quantise(scaled, width)
    values = q.step_values(steps)
    assert np.isfinite(values).all()
    back = q.reconstruct(codes, steps, width).astype(float) / size
    assert ((back - rows) ** 2).mean() < {2: 0.05, 3: 0.008}.get(width, 0.002)


@pytest.mark.parametrize("width", q.WIDTHS)
def test_steps_are_the_next_bfloat16_above(width):
    largest = np.abs(normal(2000, 1, seed=5)) + np.float32(1e-3)
    exact = np.float32([[2.0], [1.0], [0.5]])
    rows = np.concatenate([largest, exact])
    _, steps = q.quantise(rows, width)
    values = q.step_values(steps)
    wanted = rows[:, 0] / np.float32(1 << (width - 1))
    assert (values > wanted).all()
    assert (values <= wanted * (1 + 2.0**-7)).all()
    below = q.step_values(steps - np.uint16(1))
    assert (below <= wanted * (1 + 2.0**-19)).all()


@pytest.mark.parametrize("width", [5, 6, 8])
def test_the_largest_entry_stays_in_the_last_level_however_it_rounds(width):
    """Just below a bfloat16 times the levels, where a quotient would round to the end."""
    for exponent in range(-90, 120, 7):
        top = np.float32(2.0**exponent * 1.25)
        near = np.array([top], np.float32).view(np.int32) + np.arange(-20, 20, dtype=np.int32)
        rows = near.view(np.float32)[:, None]
        codes, _ = q.quantise(np.concatenate([rows, -rows], axis=1), width)
        assert (codes == [(1 << width) - 1, 0]).all()


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("width", q.WIDTHS)
def test_a_number_that_is_not_finite_is_refused_with_its_row(bad, width):
    rows = normal(4, 6)
    rows[2, 5] = bad
    with pytest.raises(q.NotFinite, match=f"row 2 .* in {width} bits, send it at 16") as caught:
        q.quantise(rows, width)
    assert caught.value.row == 2


@pytest.mark.parametrize("width", [0, 1, 7, 9, 16])
def test_other_widths_are_refused(width):
    with pytest.raises(ValueError, match=f"one of 2, 3, 4, 5, 6, 8 bits, got {width}"):
        q.quantise(normal(1, 2), width)


def test_other_rotations_are_refused():
    with pytest.raises(ValueError, match="one of none, hadamard, got 'left'"):
        q.rotate(normal(1, 2), "left")


def test_no_rows_are_no_codes():
    codes, steps = q.quantise(np.empty((0, 8), np.float32), 3)
    assert codes.shape == (0, 8)
    assert steps.shape == (0,)
    assert q.rotate(np.empty((0, 8), np.float32), "hadamard").shape == (0, 8)


def test_floats_travel_as_they_do():
    rows = normal(3, 7)
    np.testing.assert_array_equal(q.round_trip(rows, 32, rotation="hadamard"), rows)
    np.testing.assert_array_equal(
        q.round_trip(rows, 16, rotation="hadamard"), rows.astype(np.float16).astype(np.float32)
    )


@pytest.mark.parametrize("size", [1, 2, 3, 6, 8, 12, 16, 32, 48, 96, 128, 768, 1408, 2048])
def test_a_rotation_is_orthogonal_and_undone(size):
    turned = q.rotate(np.eye(size, dtype=np.float32), "hadamard")
    product = turned @ turned.T
    product[np.diag_indices(size)] -= 1.0
    assert np.abs(product).max() < 2e-6
    rows = normal(5, size)
    np.testing.assert_allclose(
        q.rotate_back(q.rotate(rows, "hadamard"), "hadamard"), rows, atol=1e-5
    )
    np.testing.assert_array_equal(q.rotate(rows, "none"), rows)


@pytest.mark.parametrize(("size", "block"), [(128, 128), (768, 256), (2048, 2048), (12288, 4096)])
def test_a_spike_is_spread_evenly_over_its_block(size, block):
    for place in (0, block // 2 + 1, size - 1):
        spike = np.zeros((1, size), np.float32)
        spike[0, place] = 3.0
        turned = np.abs(q.rotate(spike, "hadamard")[0])
        begin = place // block * block
        np.testing.assert_allclose(turned[begin : begin + block], 3.0 / math.sqrt(block), rtol=1e-5)
        turned[begin : begin + block] = 0.0
        assert not turned.any()


@pytest.mark.parametrize("size", [16, 128, 256, 768])
def test_equal_entries_are_spread_too(size):
    """Without signs a Hadamard matrix would gather them in one entry."""
    turned = np.abs(q.rotate(np.ones((1, size), np.float32), "hadamard"))
    assert turned.max() <= 2.0


def test_a_row_with_a_large_channel_loses_less_when_it_is_rotated():
    rows = normal(50, 768)
    rows[:, 13] *= 60.0
    for width in q.WIDTHS:
        lost = {
            rotation: ((q.round_trip(rows, width, rotation=rotation) - rows) ** 2).sum()
            for rotation in q.ROTATIONS
        }
        assert lost["hadamard"] < 0.7 * lost["none"], width
