"""Measures a profile and puts it into the bundle, unless the bundle already has it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from siftmoe.models.bundle.manifest import PROFILE_NAME, FileRecord, file_sha256
from siftmoe.models.bundle.reader import Bundle
from siftmoe.models.bundle.update import locked, write_manifest
from siftmoe.models.errors import BundleConflict, BundleCorrupt
from siftmoe.models.profiling.measure import ProfileOptions, calibration_of, measure_profile
from siftmoe.models.similarity.file import read_profile, write_profile

if TYPE_CHECKING:
    from siftmoe.models.profiling.measure import OnProgress
    from siftmoe.models.profiling.text import CalibrationText
    from siftmoe.models.similarity.calibration import Calibration
    from siftmoe.models.similarity.profile import Profile

#: Fields of a calibration that follow from the others; a difference in them is ignored.
_DESCRIPTIVE = {"num_tokens", "text_name"}


def add_profile(
    bundle: Bundle,
    text: CalibrationText,
    *,
    options: ProfileOptions | None = None,
    replace: bool = False,
    on_progress: OnProgress | None = None,
) -> Bundle:
    """Measure a bundle's profile and add it, unless the bundle already has the same one.

    Parameters
    ----------
    bundle : Bundle
    text : CalibrationText
    options : ProfileOptions or None
    replace : bool
        Measure again if the bundle has a profile of another text or other options, or one that
        cannot be read.
    on_progress : callable or None
        Called with a `ProfileProgress` during the measurement; never if nothing is measured.

    Returns
    -------
    Bundle
        The bundle with the profile.

    Raises
    ------
    BundleConflict
        If the bundle has another profile and ``replace`` is not given.
    BundleCorrupt, ValueError
        As `measure_profile`.
    """
    options = options or ProfileOptions()
    with locked(bundle.root):
        bundle = Bundle.open(bundle.root)  # another process may have added one since
        wanted = calibration_of(bundle, text, options, num_tokens=0)
        if bundle.manifest.profile_file() is not None and _keep(bundle, wanted, replace=replace):
            return bundle
        profile = measure_profile(bundle, text, options=options, on_progress=on_progress)
        _write(bundle, profile)
    return Bundle.open(bundle.root)


def _keep(bundle: Bundle, wanted: Calibration, *, replace: bool) -> bool:
    """Whether the bundle's profile is the wanted one; raise if another must not be replaced."""
    try:
        found = read_profile(bundle.manifest).calibration
    except BundleCorrupt:
        if replace:
            return False
        raise
    differing = [
        f"{name} {getattr(found, name)} instead of {getattr(wanted, name)}"
        for name in wanted.__struct_fields__
        if name not in _DESCRIPTIVE and getattr(found, name) != getattr(wanted, name)
    ]
    if differing and not replace:
        raise BundleConflict(
            f"bundle {str(bundle.root)!r} has another profile ({', '.join(differing)}); keep it, "
            f"or measure again with --replace-profile"
        )
    return not differing


def _write(bundle: Bundle, profile: Profile) -> None:
    """Write the file, then the manifest that lists it; in between the bundle has no profile."""
    root, document = bundle.root, bundle.manifest.document
    if PROFILE_NAME in document.files:
        others = {name: r for name, r in document.files.items() if name != PROFILE_NAME}
        document = msgspec.structs.replace(document, files=others)
        write_manifest(root, document)
    part = root / f"{PROFILE_NAME}.part"
    write_profile(profile, part)
    record = FileRecord(sha256=file_sha256(part), num_bytes=part.stat().st_size)
    part.replace(root / PROFILE_NAME)
    document = msgspec.structs.replace(document, files={**document.files, PROFILE_NAME: record})
    write_manifest(root, document)
