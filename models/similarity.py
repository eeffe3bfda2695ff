r"""How alike a model's experts are, as measured on calibration text. Needs no torch.

For every layer and expert i, over the tokens routed to i with gate weight w:

========================  ===========  =====================================================
array                     shape        meaning
========================  ===========  =====================================================
``counts``                L, E         tokens routed to i
``gate_weight``           L, E         mean of w
``output_norm``           L            mean norm of the layer's output over all tokens
``expert_norm``           L, E         mean of ‖y_i‖ over all tokens, routed to i or not
``norm_ratio``            L, E, E      mean of ‖y_j‖ over mean of ‖y_i‖
``cosine``                L, E, E      mean cosine between y_i and y_j
``deviation``             L, E, E+1    mean of ‖y_i − y_j‖; last column (skip): of ‖y_i‖
``scale``                 L, E, E+1    least-squares factor α on y_j; 0 for skip
``scaled_deviation``      L, E, E+1    mean of ‖y_i − α y_j‖
``price_scale``           L, E, E+1    least-squares factor c under weights w²
``square``                L, E, E+1    mean of ‖y_i − y_j‖² under weights w²
``scaled_square``         L, E, E+1    mean of ‖y_i − c y_j‖² under weights w²
``sensitivity``           L            a = tr F / d, F the Fisher information of the output
``response``              L            the same measured with deviations of realistic size
``amplification_prefill`` L            final deviation per deviation of this layer, all tokens
``amplification_decode``  L            the same for one token behind an undisturbed prefix
``final_norm``            (scalar)     mean norm of the last hidden state
========================  ===========  =====================================================

Everything that is a mean comes with its standard error. docs/profile.md has the formulas.
"""

from __future__ import annotations

import io
import zipfile
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from siftmoe.models.errors import BundleCorrupt, ProfileMissing

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from siftmoe.models.manifest import Manifest
    from siftmoe.models.shape import ModelShape

    FloatArray = NDArray[np.float64]
    IntArray = NDArray[np.int64]

PROFILE_FORMAT = 1

#: Dimensions of each measured quantity: L layers, E experts, X experts and skip.
DIMENSIONS = {
    "gate_weight": "LE",
    "output_norm": "L",
    "expert_norm": "LE",
    "norm_ratio": "LEE",
    "cosine": "LEE",
    "deviation": "LEX",
    "scale": "LEX",
    "scaled_deviation": "LEX",
    "price_scale": "LEX",
    "square": "LEX",
    "scaled_square": "LEX",
    "sensitivity": "L",
    "response": "L",
    "amplification_prefill": "L",
    "amplification_decode": "L",
    "final_norm": "",
}
_ERROR_SUFFIX = "_se"

#: What numpy and zipfile raise for bytes that are not what they seem.
_UNREADABLE = (ValueError, KeyError, OSError, EOFError, zipfile.BadZipFile, zlib.error)


class Calibration(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a profile was measured on.

    Parameters
    ----------
    model_hash : str
        Of the bundle whose experts were measured.
    text_name, text_sha256 : str
        The calibration text.
    max_tokens, window, seed : int
        What was asked for: tokens at most, length of a window, seed of every random choice.
    num_tokens : int
        Tokens that the text gave.
    with_gradients : bool
        Whether sensitivity and amplification were measured; they need all experts in memory.
    """

    model_hash: str
    text_name: str
    text_sha256: str
    max_tokens: int
    window: int
    seed: int
    num_tokens: int
    with_gradients: bool
    format: int = PROFILE_FORMAT


@dataclass(frozen=True, slots=True)
class Estimate:
    """A measured array and its standard error; NaN where nothing was measured.

    Standard errors take tokens as independent; windows, for what is measured on whole windows.
    """

    value: FloatArray
    error: FloatArray


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """The measured similarity of a model's experts; the module's docstring lists the arrays."""

    calibration: Calibration
    counts: IntArray
    gate_weight: Estimate
    output_norm: Estimate
    expert_norm: Estimate
    norm_ratio: Estimate
    cosine: Estimate
    deviation: Estimate
    scale: Estimate
    scaled_deviation: Estimate
    price_scale: Estimate
    square: Estimate
    scaled_square: Estimate
    sensitivity: Estimate
    response: Estimate
    amplification_prefill: Estimate
    amplification_decode: Estimate
    final_norm: Estimate

    def __post_init__(self) -> None:
        if self.counts.ndim != 2:
            raise ValueError(f"profile: counts must be [L, E], has shape {self.counts.shape}")
        layers, experts = self.counts.shape
        sizes = {"L": layers, "E": experts, "X": experts + 1}
        for name, dimensions in DIMENSIONS.items():
            wanted = tuple(sizes[letter] for letter in dimensions)
            estimate: Estimate = getattr(self, name)
            for array in (estimate.value, estimate.error):
                if array.shape != wanted:
                    raise ValueError(f"profile: {name} must have shape {wanted}, has {array.shape}")

    @property
    def num_layers(self) -> int:
        """L."""
        return int(self.counts.shape[0])

    @property
    def num_experts(self) -> int:
        """E."""
        return int(self.counts.shape[1])

    def price(self, *, rescale: bool = True, measured: bool = False) -> Estimate:
        r"""Loss that one slot's deviation is expected to cost, per squared gate weight.

        This project's own derivation (docs/theory.md, section 8):

        .. math:: q_{ij} = \tfrac12\, a\,
            \frac{\mathbb E[w^2\,\|y_i - c_{ij}\,y_j\|^2]}{\mathbb E[w^2]}

        Parameters
        ----------
        rescale : bool
            With the least-squares factor c; without it c = 1.
        measured : bool
            Take for a the ``response`` to deviations of realistic size, which also has the
            routing that they flip, instead of the Fisher ``sensitivity``.

        Returns
        -------
        Estimate of (L, E, E+1) float64, nat
            A slot served so costs about :math:`w^2 q_{ij}`.

        Raises
        ------
        ProfileMissing
            If neither was measured.
        """
        factor = self.response if measured else self.sensitivity
        if not np.isfinite(factor.value).all():
            raise ProfileMissing(_no_gradients("sensitivity"))
        square = self.scaled_square if rescale else self.square
        a, a_error = factor.value[:, None, None], factor.error[:, None, None]
        error = 0.5 * np.hypot(a * square.error, a_error * square.value)
        return Estimate(0.5 * a * square.value, error)  # [L, E, E+1]

    def amplification(self, *, prefill: bool) -> Estimate:
        """Factor from a layer's deviation to the final one, (L,).

        Raises
        ------
        ProfileMissing
            If it was not measured.
        """
        estimate = self.amplification_prefill if prefill else self.amplification_decode
        if np.isnan(estimate.value).all():
            raise ProfileMissing(_no_gradients("amplification"))
        return estimate

    def write(self, path: Path) -> None:
        """Write as ``.npz`` without pickled objects; the same profile gives the same bytes."""
        arrays: dict[str, Any] = {
            "calibration": np.array(msgspec.json.encode(self.calibration).decode()),
            "counts": self.counts,
        }
        for name in DIMENSIONS:
            estimate: Estimate = getattr(self, name)
            arrays[name] = estimate.value
            arrays[name + _ERROR_SUFFIX] = estimate.error
        with path.open("wb") as stream:
            np.savez_compressed(stream, **arrays)

    @classmethod
    def read(cls, content: bytes, *, title: str) -> Profile:
        """Read what `write` wrote; ``title`` names it in errors.

        Raises
        ------
        BundleCorrupt
            If it is no such file, or an array is missing or of the wrong shape.
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
            f"'siftmoe prepare MODEL --out {manifest.root} --calibration TEXT'"
        )
    title = f"bundle {str(manifest.root)!r}: {entry.name}"
    profile = Profile.read(manifest.read_file(entry), title=title)
    _check_fits(profile, manifest.shape, manifest.model_hash, title)
    return profile


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


def _no_gradients(what: str) -> str:
    return (
        f"the profile has no {what}: it was measured with experts larger than the memory allowed; "
        f"measure it again with a larger --expert-memory and --replace-profile"
    )
