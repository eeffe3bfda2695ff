"""Compiled packing gives the same bytes as numpy, and the same numbers to the last bit."""

import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import siftmoe.models.vectors
from siftmoe.agent.wire.packed import pack_rows, plain, plain_all
from siftmoe.models.errors import KernelsUnavailable
from siftmoe.models.vectors import fused
from siftmoe.models.vectors.quantise import ROTATIONS, WIDTHS, NotFinite, round_trip
from siftmoe.models.vectors.records import record_bytes

SIZES = (1, 2, 3, 5, 8, 12, 16, 31, 48, 96, 128, 200, 768, 1408, 2048, 4096, 8192)
#: Bits of the largest finite bfloat16.
MOST = 0x7F7F


@pytest.fixture(autouse=True, scope="module")
def kernels():
    """Uses compiled code; restores the packing used before."""
    before = fused._kernels
    assert fused.load_kernels()
    assert fused.active_packing() == "compiled"
    yield fused._kernels
    fused._kernels = before


def by(packing, call, *args, **options):
    """Result of a call with one packing, or the text of its error."""
    fused.choose(packing)
    try:
        return call(*args, **options)
    except NotFinite as error:
        return (str(error), error.row, error.width)
    finally:
        fused.choose("compiled")


def both(call, *args, **options):
    return [by(packing, call, *args, **options) for packing in ("numpy", "compiled")]


def same_bits(a, b):
    assert a.shape == b.shape
    np.testing.assert_array_equal(a.view(np.uint32), b.view(np.uint32))


def check(rows, runs, rotation):
    """Compare both packings; returns whether the rows could be written."""
    numpy, compiled = both(fused.write_runs, rows, runs, rotation=rotation)
    if isinstance(numpy, tuple):
        assert compiled == numpy
        return False
    for a, b in zip(numpy, compiled, strict=True):
        np.testing.assert_array_equal(a, b)
    flat = np.concatenate([part.reshape(-1) for part in numpy])
    same_bits(*both(fused.read, flat, runs, size=rows.shape[1], rotation=rotation))
    return True


@pytest.mark.parametrize("rotation", ROTATIONS)
@pytest.mark.parametrize("size", SIZES)
def test_random_rows_of_every_width_and_magnitude(size, rotation):
    rng = np.random.default_rng(size)
    runs = [(width, 4) for width in rng.permutation(WIDTHS).tolist()]
    rows = rng.standard_normal((4 * len(runs), size)).astype(np.float32)
    assert check(rows, runs, rotation)
    spiky = rows * np.exp(3.0 * rng.standard_normal(rows.shape)).astype(np.float32)
    assert check(spiky, runs, rotation)
    assert check(np.round(4.0 * rows), runs, rotation)  # ties, and zeros
    for power in (-149, -126, -100, -60, 60, 100):
        assert check(np.ldexp(rows, power).astype(np.float32), runs, rotation)


@pytest.mark.parametrize("rotation", ROTATIONS)
@pytest.mark.parametrize("size", [1, 7, 16, 96, 256])
def test_extreme_rows(size, rotation):
    most = np.finfo(np.float32).max
    extremes = np.float32([0.0, -0.0, 1e-45, -1e-38, 1.0, most, -most, 2.0**127])
    drawn = np.random.default_rng(1).choice(extremes, (60, size))
    rows = np.concatenate([np.repeat(extremes[:, None], size, axis=1), drawn])
    for width in WIDTHS:
        for row in rows:  # those that overflow when they are turned are refused alike
            check(row[None], [(width, 1)], rotation)


FLOATS = st.floats(width=32)


@settings(max_examples=300, deadline=None)
@given(st.data(), st.sampled_from(ROTATIONS))
def test_any_rows_in_any_runs(data, rotation):
    runs = data.draw(st.lists(st.tuples(st.sampled_from(WIDTHS), st.integers(0, 3)), min_size=1))
    size = data.draw(st.integers(1, 70))
    count = sum(rows for _, rows in runs)
    elements = data.draw(st.sampled_from([FLOATS, st.floats(-4.0, 4.0, width=32)]))
    rows = data.draw(hnp.arrays(np.float32, (count, size), elements=elements))
    check(rows, runs, rotation)


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(WIDTHS), st.integers(1, 100), st.integers(0, 4), st.data())
def test_whatever_a_peer_sends_is_read_alike(width, size, count, data):
    length = record_bytes(size, width)
    records = data.draw(hnp.arrays(np.uint8, (count, length)))
    steps = data.draw(hnp.arrays(np.uint16, count, elements=st.integers(1, MOST)))
    records[:, :2] = steps.astype("<u2")[:, None].view(np.uint8)
    for rotation in ROTATIONS:
        flat = records.reshape(-1)
        same_bits(*both(fused.read, flat, [(width, count)], size=size, rotation=rotation))
        frozen = np.frombuffer(flat.tobytes(), np.uint8)
        same_bits(*both(fused.read, frozen, [(width, count)], size=size, rotation=rotation))


@pytest.mark.parametrize("packing", ["numpy", "compiled"])
@pytest.mark.parametrize("rotation", ROTATIONS)
def test_what_arrives_is_the_round_trip_and_depends_on_no_other_row(packing, rotation):
    rows = np.random.default_rng(3).standard_normal((7, 96)).astype(np.float32)
    fused.choose(packing)
    for width in WIDTHS:
        whole = pack_rows(rows, width, rotation=rotation)
        single = [pack_rows(row[None], width, rotation=rotation) for row in rows]
        arrived = plain(whole)
        same_bits(arrived, round_trip(rows, width, rotation=rotation))
        same_bits(arrived, np.concatenate(plain_all(single)))
    fused.choose("compiled")


def test_rows_may_lie_anyhow_in_memory():
    rows = np.random.default_rng(4).standard_normal((8, 64)).astype(np.float32)
    expected = fused.write(rows, 4, rotation="hadamard")
    frozen = rows.copy()
    frozen.flags.writeable = False
    for other in (np.asfortranarray(rows), np.repeat(rows, 2, axis=1)[:, ::2], frozen):
        np.testing.assert_array_equal(fused.write(other, 4, rotation="hadamard"), expected)


def test_what_is_wrong_is_said_alike():
    rows = np.ones((2, 8), np.float32)
    for packing in ("numpy", "compiled"):
        with pytest.raises(ValueError, match="one of 2, 3, 4, 5, 6, 8 bits, got 7"):
            by(packing, fused.write, rows, 7, rotation="none")
        with pytest.raises(ValueError, match="one of none, hadamard, got 'left'"):
            by(packing, fused.write, rows, 4, rotation="left")
        with pytest.raises(ValueError, match="take 12 bytes, the records are 11"):
            by(packing, fused.read, np.ones(11, np.uint8), [(4, 2)], size=8, rotation="none")


def test_others_may_run_meanwhile(kernels):
    """The interpreter's lock is released."""
    for kernel in (kernels.encode, kernels.decode):
        assert kernel.targetoptions["nogil"]
        assert not kernel.targetoptions.get("fastmath")


def test_without_numba_rows_are_packed_by_numpy(monkeypatch):
    monkeypatch.setattr(fused, "_kernels", None)
    monkeypatch.setitem(sys.modules, "numba", None)
    monkeypatch.delitem(sys.modules, "siftmoe.models.vectors.kernels")
    monkeypatch.delattr(siftmoe.models.vectors, "kernels")
    fused.choose("auto")
    assert fused.active_packing() == "numpy"
    rows = np.random.default_rng(5).standard_normal((3, 48)).astype(np.float32)
    arrived = plain(pack_rows(rows, 5, rotation="hadamard"))
    same_bits(arrived, round_trip(rows, 5, rotation="hadamard"))
    with pytest.raises(KernelsUnavailable, match=r"needs numba .* 'siftmoe\[fast\]'"):
        fused.choose("compiled")
    fused.choose("numpy")
