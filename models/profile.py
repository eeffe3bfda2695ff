"""Measure how alike a bundle's experts are, and put the profile into the bundle.

The bundle's own experts are measured, in the precision they are served in. What needs gradients or
many forward passes (sensitivity, amplification) is measured only if all experts fit into memory;
otherwise it is left out and the profile says so.
"""

from __future__ import annotations

import fcntl
import os
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import msgspec
import numpy as np

from siftmoe.models.bundle import Bundle
from siftmoe.models.errors import BundleConflict
from siftmoe.models.manifest import MANIFEST_NAME, PROFILE_NAME, FileRecord, file_sha256
from siftmoe.models.similarity import DIMENSIONS, Calibration, Estimate, Profile, read_profile

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from siftmoe.models.profile_text import CalibrationText

    Stage = Literal["similarity", "sensitivity", "amplification"]
    OnProgress = Callable[["ProfileProgress"], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class ProfileProgress:
    """How far a measurement is: "similarity" and "amplification" count layers, else windows."""

    stage: Stage
    done: int
    total: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ProfileOptions:
    """How to measure.

    Parameters
    ----------
    max_tokens : int
        Calibration tokens at most.
    window : int
        Tokens of a window.
    seed : int
        Of the windows drawn, the labels sampled and the perturbations.
    expert_bytes : int
        Memory that the experts may take in float32; a model with larger ones is measured layer by
        layer, without sensitivity and amplification.
    """

    max_tokens: int = 8192
    window: int = 128
    seed: int = 0
    expert_bytes: int = 4 << 30

    def __post_init__(self) -> None:
        for name in ("max_tokens", "window"):
            if getattr(self, name) < 8:
                raise ValueError(f"profile: {name} must be at least 8, got {getattr(self, name)}")
        if self.seed < 0 or self.expert_bytes < 0:
            raise ValueError("profile: seed and expert_bytes must not be negative")


def measure_profile(
    bundle: Bundle,
    text: CalibrationText,
    *,
    options: ProfileOptions | None = None,
    on_progress: OnProgress | None = None,
) -> Profile:
    """Measure a bundle's experts on a text. The same seed gives the same profile.

    Raises
    ------
    BundleCorrupt
        If a file of the bundle is damaged.
    ValueError
        If the text is too short.
    """
    import torch

    from siftmoe.models.profile_experts import ExpertStore
    from siftmoe.models.profile_forward import ProfiledModel
    from siftmoe.models.profile_products import run_products
    from siftmoe.models.profile_text import calibration_windows

    options = options or ProfileOptions()
    report: OnProgress = on_progress or (lambda _: None)
    windows = calibration_windows(
        text,
        bundle.load_tokenizer(),
        max_tokens=options.max_tokens,
        window=options.window,
        seed=options.seed,
    )
    profiled = ProfiledModel(bundle.load_backbone())
    store = ExpertStore(bundle, profiled.layers, max_bytes=options.expert_bytes)
    tokens = torch.from_numpy(windows)
    count = _counter(report, "similarity", bundle.shape.num_layers)
    counts, estimates = run_products(profiled, store, tokens, on_layer=count)
    return Profile(
        calibration=_calibration(bundle, text, options, num_tokens=windows.size),
        counts=counts,
        **_unmeasured(bundle),
        **estimates,
    )


def add_profile(
    bundle: Bundle,
    text: CalibrationText,
    *,
    options: ProfileOptions | None = None,
    replace: bool = False,
    on_progress: OnProgress | None = None,
) -> Bundle:
    """Put a profile into a bundle, or find it there.

    Parameters
    ----------
    bundle : Bundle
    text : CalibrationText
    options : ProfileOptions or None
    replace : bool
        Measure anew if the bundle has a profile from another text or other options.
    on_progress : callable or None
        Called with a `ProfileProgress` as work gets done; not at all if there is nothing to do.

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
    with _locked(bundle.root):
        bundle = Bundle.open(bundle.root)  # another process may have added one meanwhile
        if bundle.manifest.profile_file() is not None and not replace:
            _check_same(bundle, _calibration(bundle, text, options, num_tokens=0))
            return bundle
        profile = measure_profile(bundle, text, options=options, on_progress=on_progress)
        _write(bundle, profile)
    return Bundle.open(bundle.root)


def _check_same(bundle: Bundle, wanted: Calibration) -> None:
    found = read_profile(bundle.manifest).calibration
    ignored = {"num_tokens", "text_name"}
    differing = [
        f"{name} {getattr(found, name)} instead of {getattr(wanted, name)}"
        for name in wanted.__struct_fields__
        if name not in ignored and getattr(found, name) != getattr(wanted, name)
    ]
    if differing:
        raise BundleConflict(
            f"bundle {str(bundle.root)!r} has another profile ({', '.join(differing)}); keep it, "
            f"or measure again with --replace-profile"
        )


def _write(bundle: Bundle, profile: Profile) -> None:
    """Add the file, then the manifest that lists it; in between the bundle is one without."""
    root, document = bundle.root, bundle.manifest.document
    if PROFILE_NAME in document.files:
        others = {name: r for name, r in document.files.items() if name != PROFILE_NAME}
        document = msgspec.structs.replace(document, files=others)
        _write_whole(root / MANIFEST_NAME, _encoded(document))
    part = root / f"{PROFILE_NAME}.part"
    profile.write(part)
    record = FileRecord(sha256=file_sha256(part), num_bytes=part.stat().st_size)
    part.replace(root / PROFILE_NAME)
    document = msgspec.structs.replace(document, files={**document.files, PROFILE_NAME: record})
    _write_whole(root / MANIFEST_NAME, _encoded(document))


def _encoded(document: msgspec.Struct) -> bytes:
    return msgspec.json.format(msgspec.json.encode(document, order="sorted"), indent=1)


def _write_whole(path: Path, content: bytes) -> None:
    part = path.with_name(f"{path.name}.part")
    with part.open("wb") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())
    part.replace(path)


@contextmanager
def _locked(root: Path) -> Iterator[None]:
    """Wait until no other process adds a profile to the bundle."""
    folder = os.open(root, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        yield
    finally:
        os.close(folder)


def _calibration(
    bundle: Bundle, text: CalibrationText, options: ProfileOptions, *, num_tokens: int
) -> Calibration:
    from siftmoe.models.profile_experts import fits_in_memory

    return Calibration(
        model_hash=bundle.manifest.model_hash,
        text_name=text.name,
        text_sha256=text.sha256,
        max_tokens=options.max_tokens,
        window=options.window,
        seed=options.seed,
        num_tokens=num_tokens,
        with_gradients=fits_in_memory(bundle, max_bytes=options.expert_bytes),
    )


def _unmeasured(bundle: Bundle) -> dict[str, Estimate]:
    """Estimates of what needs all experts in memory, unknown."""
    names = ("sensitivity", "amplification_prefill", "amplification_decode", "final_norm")
    layers = bundle.shape.num_layers
    unknown = {name: np.full(layers if DIMENSIONS[name] else (), np.nan) for name in names}
    return {name: Estimate(values, values) for name, values in unknown.items()}


def _counter(report: OnProgress, stage: Stage, total: int) -> Callable[[], None]:
    done = 0

    def count() -> None:
        nonlocal done
        done += 1
        report(ProfileProgress(stage=stage, done=done, total=total))

    return count
