from __future__ import annotations

import dataclasses
import io
import shutil

import msgspec
import numpy as np
import pytest
from profiles import calibration

from siftmoe.models.bundle.reader import Bundle
from siftmoe.models.bundle.writer import prepare_bundle
from siftmoe.models.errors import BundleConflict, BundleCorrupt, ProfileMissing
from siftmoe.models.profiling.bundle import add_profile
from siftmoe.models.profiling.measure import ProfileOptions
from siftmoe.models.profiling.text import CalibrationText, calibration_windows
from siftmoe.models.similarity.file import parse_profile, read_profile, write_profile
from siftmoe.models.similarity.profile import Profile
from siftmoe.models.similarity.quantities import DIMENSIONS, Estimate
from siftmoe.models.tiny.files import checkpoint_dir
from siftmoe.models.vectors.quantise import WIDTHS

LAYERS, EXPERTS = 2, 3


def profile_of(**changed):
    rng = np.random.default_rng(1)
    sizes = {"L": LAYERS, "W": len(WIDTHS), "E": EXPERTS, "X": EXPERTS + 1}
    estimates = {
        name: Estimate(*rng.uniform(0.5, 1.5, (2, *(sizes[d] for d in dimensions))))
        for name, dimensions in DIMENSIONS.items()
    }
    estimates["final_norm"] = Estimate(np.array(2.0), np.array(0.1))
    counts = np.arange(LAYERS * EXPERTS).reshape(LAYERS, EXPERTS)
    return Profile(**{"calibration": calibration(), "counts": counts, **estimates, **changed})


def test_a_profile_is_read_as_it_was_written(tmp_path):
    profile = profile_of()
    write_profile(profile, tmp_path / "a.npz")
    write_profile(profile, tmp_path / "b.npz")
    content = (tmp_path / "a.npz").read_bytes()
    assert content == (tmp_path / "b.npz").read_bytes()
    found = parse_profile(content, title="a")
    assert found.calibration == profile.calibration
    assert (found.counts == profile.counts).all()
    for name in DIMENSIONS:
        np.testing.assert_array_equal(getattr(found, name).value, getattr(profile, name).value)
        np.testing.assert_array_equal(getattr(found, name).error, getattr(profile, name).error)


def rewritten(profile, folder, **changed):
    """The bytes of a profile's file with arrays replaced, or left out where None."""
    write_profile(profile, folder / "p.npz")
    with np.load(folder / "p.npz") as arrays:
        kept = {**dict(arrays), **changed}
    stream = io.BytesIO()
    np.savez(stream, **{name: array for name, array in kept.items() if array is not None})
    return stream.getvalue()


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"deviation": np.zeros((2, 3, 3))}, "deviation must have shape"),
        ({"deviation_se": None}, "deviation_se"),
        ({"counts": np.zeros(3, dtype=int)}, "counts must be"),
        ({"counts": np.zeros((2, 3))}, "counts are float64"),
        ({"scale": np.zeros((2, 3, 4), dtype=object)}, "pickle"),
        ({"scale": np.full((2, 3, 4), "a")}, "scale is <U1"),
        ({"more": np.zeros(1)}, "unknown arrays more"),
        ({"calibration": np.array("{}")}, "missing required field"),
    ],
)
def test_a_file_that_is_no_profile_is_named(tmp_path, changed, message):
    content = rewritten(profile_of(), tmp_path, **changed)
    with pytest.raises(BundleCorrupt, match=message) as caught:
        parse_profile(content, title="bundle 'x': profile.npz")
    assert "bundle 'x': profile.npz" in str(caught.value)
    assert "--replace-profile" in str(caught.value)


@pytest.mark.parametrize(
    "content", [b"", b"PK\x03\x04", b"\x80\x04N.", b"nothing", b"\x93NUMPY\x01"]
)
def test_bytes_that_are_no_archive_are_named(content):
    with pytest.raises(BundleCorrupt, match="not a profile"):
        parse_profile(content, title="p")


def test_another_format_is_refused(tmp_path):
    profile = profile_of()
    old = msgspec.structs.replace(profile.calibration, format=99)
    write_profile(dataclasses.replace(profile, calibration=old), tmp_path / "p.npz")
    with pytest.raises(BundleCorrupt, match="format 99 instead of"):
        parse_profile((tmp_path / "p.npz").read_bytes(), title="p")


@pytest.mark.parametrize("rescale", [True, False])
@pytest.mark.parametrize("measured", [True, False])
def test_the_price_is_half_the_sensitivity_times_the_square(rescale, measured):
    profile = profile_of()
    price = profile.price(rescale=rescale, measured=measured)
    square = profile.scaled_square if rescale else profile.square
    a = profile.response if measured else profile.sensitivity
    for layer in range(LAYERS):
        assert price.value[layer] == pytest.approx(0.5 * a.value[layer] * square.value[layer])
    relative = np.sqrt(
        (square.error / square.value) ** 2 + ((a.error / a.value) ** 2)[:, None, None]
    )
    assert price.error == pytest.approx(price.value * relative)


def test_what_was_not_measured_is_not_made_up():
    unknown = Estimate(np.full(LAYERS, np.nan), np.full(LAYERS, np.nan))
    profile = profile_of(sensitivity=unknown, amplification_decode=unknown)
    with pytest.raises(ProfileMissing, match="no sensitivity"):
        profile.price()
    with pytest.raises(ProfileMissing, match="no amplification"):
        profile.amplification(prefill=False)
    assert profile.amplification(prefill=True) is profile.amplification_prefill


@pytest.fixture(scope="module")
def plain_bundle(tmp_path_factory):
    """A bundle with a tokenizer and without a profile."""
    from families import build_model

    folder = tmp_path_factory.mktemp("plain")
    build_model("mixtral", vocab_size=2048).save_pretrained(folder / "model")
    for path in checkpoint_dir("upcycled").glob("tokenizer*"):
        shutil.copy(path, folder / "model")
    return prepare_bundle(folder / "model", folder / "bundle").root


@pytest.fixture
def bundle(plain_bundle, tmp_path):
    return Bundle.open(shutil.copytree(plain_bundle, tmp_path / "bundle"))


TEXT = CalibrationText(name="t", text="\n\n".join(f"Return item {i} of a list." for i in range(99)))
OPTIONS = ProfileOptions(max_tokens=96, window=16)


def test_a_profile_is_added_once(bundle):
    with pytest.raises(ProfileMissing, match="siftmoe prepare MODEL --out"):
        read_profile(bundle.manifest)
    stages = []
    added = add_profile(bundle, TEXT, options=OPTIONS, on_progress=stages.append)
    assert [p.stage for p in stages if p.done == p.total] == [
        "similarity",
        "sensitivity",
        "response",
        "amplification",
    ]
    added.verify()
    assert added.manifest.model_hash == bundle.manifest.model_hash
    profile = read_profile(added.manifest)
    assert profile.calibration.num_tokens == 96
    assert profile.calibration.with_gradients
    assert profile.counts.sum(axis=1).tolist() == [2 * 96, 2 * 96]
    stages.clear()
    same = add_profile(bundle, TEXT, options=OPTIONS, on_progress=stages.append)
    assert stages == []
    assert same.manifest.document == added.manifest.document


def test_another_profile_is_kept_unless_it_may_be_replaced(bundle):
    add_profile(bundle, TEXT, options=OPTIONS)
    before = (bundle.root / "profile.npz").read_bytes()
    other = dataclasses.replace(OPTIONS, seed=5)
    with pytest.raises(BundleConflict, match=r"seed 0 instead of 5.*--replace-profile"):
        add_profile(bundle, TEXT, options=other)
    assert (bundle.root / "profile.npz").read_bytes() == before
    replaced = add_profile(bundle, TEXT, options=other, replace=True)
    replaced.verify()
    assert read_profile(replaced.manifest).calibration.seed == 5
    back = add_profile(bundle, TEXT, options=OPTIONS, replace=True)
    assert (back.root / "profile.npz").read_bytes() == before


def test_a_profile_of_another_model_is_not_used(bundle):
    added = add_profile(bundle, TEXT, options=OPTIONS)
    moved = dataclasses.replace(added.manifest, model_hash="0" * 64)
    with pytest.raises(BundleCorrupt, match="measured on another model"):
        read_profile(moved)


def test_a_damaged_profile_is_found(bundle):
    added = add_profile(bundle, TEXT, options=OPTIONS)
    path = added.root / "profile.npz"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(BundleCorrupt, match=r"profile\.npz has sha256"):
        read_profile(added.manifest)
    with pytest.raises(BundleCorrupt, match=r"profile\.npz has sha256"):
        add_profile(added, TEXT, options=OPTIONS)
    add_profile(added, TEXT, options=OPTIONS, replace=True).verify()


def test_windows_are_drawn_from_the_text_without_repetition(bundle):
    tokenizer = bundle.load_tokenizer()
    drawn = calibration_windows(TEXT, tokenizer, max_tokens=170, window=16, seed=1)
    every = calibration_windows(TEXT, tokenizer, max_tokens=10**6, window=16, seed=1)
    assert drawn.shape == (10, 16)
    rows = [row.tobytes() for row in drawn]
    assert len(set(rows)) == 10
    positions = [[row.tobytes() for row in every].index(row) for row in rows]
    assert positions == sorted(positions)
    other = calibration_windows(TEXT, tokenizer, max_tokens=170, window=16, seed=2)
    assert (other != drawn).any()
    assert every.reshape(-1)[0] == tokenizer.bos_token_id
    assert (every == tokenizer.bos_token_id).sum() <= 99


def test_a_text_that_is_too_short_is_refused(bundle):
    with pytest.raises(ValueError, match=r"3 windows of 16, 4 are needed"):
        calibration_windows(TEXT, bundle.load_tokenizer(), max_tokens=63, window=16, seed=0)
