"""The conditions of a profile's measurement: text, sample, widths, rotation. Needs no torch."""

from __future__ import annotations

import msgspec

from siftmoe.models.vectors.quantise import WIDTHS, Rotation

PROFILE_FORMAT = 2


class Calibration(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The conditions of a profile's measurement.

    Parameters
    ----------
    model_hash : str
        Of the bundle whose experts were measured.
    text_name, text_sha256 : str
        The calibration text.
    max_tokens, window, seed : int
        Options: tokens at most, length of a window, seed of every random choice.
    num_tokens : int
        Tokens that were measured.
    with_gradients : bool
        Whether sensitivity and amplification were measured, which need all experts in memory.
    widths : tuple of int, bit
        Few-bit widths that were measured, ascending.
    rotation : "none" or "hadamard"
        Rotation of rows before they are quantised.
    """

    model_hash: str
    text_name: str
    text_sha256: str
    max_tokens: int
    window: int
    seed: int
    num_tokens: int
    with_gradients: bool
    widths: tuple[int, ...] = WIDTHS
    rotation: Rotation = "hadamard"
    format: int = PROFILE_FORMAT
