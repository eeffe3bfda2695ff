"""Reads and writes a bundle's profile, ``profile.npz``. Needs no torch."""

from __future__ import annotations

import io
import zipfile
import zlib
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from siftmoe.models.errors import BundleCorrupt, ProfileMissing
from siftmoe.models.similarity.calibration import PROFILE_FORMAT, Calibration
from siftmoe.models.similarity.profile import Profile
from siftmoe.models.similarity.quantities import DIMENSIONS, Estimate

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from siftmoe.models.bundle.manifest import Manifest
    from siftmoe.models.bundle.reader import Bundle
    from siftmoe.models.shape import ModelShape
    from siftmoe.models.vectors.quantise import Rotation

_ERROR_SUFFIX = "_se"

#: Errors of numpy and zipfile for damaged bytes.
_UNREADABLE = (ValueError, KeyError, OSError, EOFError, zipfile.BadZipFile, zlib.error)


def write_profile(profile: Profile, path: Path) -> None:
    """Write a profile as ``.npz`` without pickled objects; equal profiles give equal bytes."""
    arrays: dict[str, Any] = {
        "calibration": np.array(msgspec.json.encode(profile.calibration).decode()),
        "counts": profile.counts,
    }
    for name in DIMENSIONS:
        estimate: Estimate = getattr(profile, name)
        arrays[name] = estimate.value
        arrays[name + _ERROR_SUFFIX] = estimate.error
    with path.open("wb") as stream:
        np.savez_compressed(stream, **arrays)


def parse_profile(content: bytes, *, title: str) -> Profile:
    """Parse the bytes of a profile's file; ``title`` names it in errors.

    Raises
    ------
    BundleCorrupt
        If it is not such a file, or an array is missing or has a wrong shape.
    """
    try:
        if not zipfile.is_zipfile(io.BytesIO(content)):
            raise ValueError("no .npz archive")
        with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
            return _from_arrays(dict(arrays))
    except (*_UNREADABLE, msgspec.MsgspecError) as error:
        raise BundleCorrupt(
            f"{title}: not a profile that this siftmoe reads ({error}); "
            f"measure it again with 'siftmoe prepare … --calibration TEXT --replace-profile'"
        ) from error


def read_profile(manifest: Manifest) -> Profile:
    """Read a bundle's profile, checking its hash.

    Raises
    ------
    ProfileMissing
        If the bundle has none.
    BundleCorrupt
        If the file is damaged, or does not fit the model.
    """
    entry = manifest.profile_file()
    if entry is None:
        raise ProfileMissing(
            f"bundle {str(manifest.root)!r} has no profile; add one with "
            f"'siftmoe prepare MODEL --out {manifest.root}'"
        )
    title = f"bundle {str(manifest.root)!r}: {entry.name}"
    profile = parse_profile(manifest.read_file(entry), title=title)
    _check_fits(profile, manifest.shape, manifest.model_hash, title)
    return profile


def rotation_of(bundle: Bundle) -> Rotation:
    """Rotation of a bundle's rows before they are quantised: the one of its profile."""
    if bundle.manifest.profile_file() is None:
        return "hadamard"
    return read_profile(bundle.manifest).calibration.rotation


def _check_fits(profile: Profile, shape: ModelShape, model_hash: str, title: str) -> None:
    if (
        profile.counts.shape != (shape.num_layers, shape.num_experts)
        or profile.calibration.model_hash != model_hash
    ):
        raise BundleCorrupt(
            f"{title} was measured on another model ({profile.num_layers} layers of "
            f"{profile.num_experts} experts, {profile.calibration.model_hash[:12]}…); measure it "
            f"again with 'siftmoe prepare … --calibration TEXT --replace-profile'"
        )


def _from_arrays(arrays: dict[str, NDArray[Any]]) -> Profile:
    calibration = msgspec.json.decode(str(arrays["calibration"]), type=Calibration)
    if calibration.format != PROFILE_FORMAT:
        raise ValueError(f"format {calibration.format} instead of {PROFILE_FORMAT}")
    if arrays["counts"].dtype.kind != "i":
        raise ValueError(f"counts are {arrays['counts'].dtype}")
    measured = [name + suffix for name in DIMENSIONS for suffix in ("", _ERROR_SUFFIX)]
    for name in measured:
        if arrays[name].dtype.kind != "f":
            raise ValueError(f"{name} is {arrays[name].dtype}")
    if extra := set(arrays) - {"calibration", "counts", *measured}:
        raise ValueError(f"unknown arrays {', '.join(sorted(extra))}")
    estimates = {name: Estimate(arrays[name], arrays[name + _ERROR_SUFFIX]) for name in DIMENSIONS}
    return Profile(calibration=calibration, counts=arrays["counts"].astype(np.int64), **estimates)
