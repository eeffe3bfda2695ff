import numpy as np
import pytest

from siftmoe.models.vectors.channels import (
    channel_steps,
    quantise_channels,
    reconstruct_channels,
)
from siftmoe.models.vectors.quantise import WIDTHS


def rows(seed=0):
    scale = np.geomspace(1e-3, 1e3, 24)
    return (np.random.default_rng(seed).standard_normal((200, 24)) * scale).astype(np.float32)


@pytest.mark.parametrize("width", WIDTHS)
def test_calibration_rows_are_off_by_half_a_step_at_most(width):
    steps = channel_steps(rows(), width)
    codes = quantise_channels(rows(), steps, width)
    error = np.abs(reconstruct_channels(codes, steps, width) - rows())
    assert (error <= steps / 2 * (1 + 1e-5)).all()
    assert codes.max() < 1 << width


@pytest.mark.parametrize("width", WIDTHS)
def test_what_is_beyond_is_clipped_to_the_last_level(width):
    steps = channel_steps(rows(), width)
    codes = quantise_channels(1e30 * rows(), steps, width)
    assert set(np.unique(codes)) <= {0, (1 << width) - 1}


def test_a_channel_that_was_always_zero_has_a_step():
    calibration = rows()
    calibration[:, 3] = 0.0
    steps = channel_steps(calibration, 4)
    assert (steps > 0).all()
    back = reconstruct_channels(quantise_channels(rows(1), steps, 4), steps, 4)
    assert np.abs(back[:, 3]).max() < 1e-27


def test_mistakes_are_named():
    bad = rows()
    bad[7, 2] = np.nan
    with pytest.raises(ValueError, match="channel 2 has a calibration number"):
        channel_steps(bad, 4)
    with pytest.raises(ValueError, match="at least one calibration row"):
        channel_steps(rows()[:0], 4)
    steps = channel_steps(rows(), 4)
    with pytest.raises(ValueError, match="row 7 has a number"):
        quantise_channels(bad, steps, 4)
    with pytest.raises(ValueError, match=r"24 channels, steps have shape \(23,\)"):
        quantise_channels(rows(), steps[1:], 4)
    with pytest.raises(ValueError, match="got 7"):
        channel_steps(rows(), 7)
