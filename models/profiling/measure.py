"""Measures the profile of a bundle's experts.

The bundle's own experts are measured in the precision in which they are served. Quantities that
need gradients or many forward passes (sensitivity, response, amplification) are measured only if
all experts fit into memory; otherwise the profile states that they are missing.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from siftmoe.models.similarity.calibration import Calibration
from siftmoe.models.similarity.profile import Profile
from siftmoe.models.similarity.quantities import DIMENSIONS, Estimate
from siftmoe.models.vectors.quantise import WIDTHS, check_width

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray
    from torch import Tensor

    from siftmoe.models.bundle.reader import Bundle
    from siftmoe.models.profiling.experts import ExpertStore
    from siftmoe.models.profiling.forward import ProfiledModel
    from siftmoe.models.profiling.text import CalibrationText
    from siftmoe.models.vectors.quantise import Rotation

    Stage = Literal["similarity", "sensitivity", "response", "amplification"]
    OnProgress = Callable[["ProfileProgress"], None]


_log = logging.getLogger(__name__)

#: Most windows on which sensitivity and amplification are measured: they take many passes, and this
#: number gives them to a few percent.
EFFECT_WINDOWS = 48


@dataclass(frozen=True, slots=True, kw_only=True)
class ProfileProgress:
    """Progress of a measurement: "similarity" counts layers, the other stages windows."""

    stage: Stage
    done: int
    total: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ProfileOptions:
    """Options of a measurement.

    Parameters
    ----------
    max_tokens : int
        Calibration tokens at most.
    window : int
        Tokens of a window.
    seed : int
        Seed of the drawn windows, the sampled labels and the perturbations.
    expert_bytes : int
        Memory for the experts in float32; a model that needs more is measured layer by layer,
        without sensitivity and amplification.
    widths : tuple of int, bit
        Few-bit widths in which tokens may travel; each costs one more pass through all experts.
    rotation : "none" or "hadamard"
        Rotation of rows before they are quantised.
    """

    max_tokens: int = 8192
    window: int = 128
    seed: int = 0
    expert_bytes: int = 4 << 30
    widths: tuple[int, ...] = WIDTHS
    rotation: Rotation = "hadamard"

    def __post_init__(self) -> None:
        for width in self.widths:
            check_width(width)
        if list(self.widths) != sorted(set(self.widths)):
            raise ValueError(f"profile: widths must ascend, got {self.widths}")
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
    from siftmoe.models.profiling.text import calibration_windows

    options = options or ProfileOptions()
    windows = calibration_windows(
        text,
        bundle.load_tokenizer(),
        max_tokens=options.max_tokens,
        window=options.window,
        seed=options.seed,
    )
    counts, estimates = measure_windows(bundle, windows, options=options, on_progress=on_progress)
    calibration = calibration_of(bundle, text, options, num_tokens=windows.size)
    return Profile(calibration=calibration, counts=counts, **estimates)


def measure_windows(
    bundle: Bundle,
    windows: NDArray[np.int64],
    *,
    options: ProfileOptions,
    on_progress: OnProgress | None = None,
) -> tuple[NDArray[np.int64], dict[str, Estimate]]:
    """Measure a bundle's experts on windows of tokens, (B, S) int64.

    Returns
    -------
    counts : (L, E) int64
    estimates : dict of str to Estimate
        Every other quantity of `Profile`.
    """
    import torch

    from siftmoe.models.profiling.experts import ExpertStore
    from siftmoe.models.profiling.forward import ProfiledModel
    from siftmoe.models.profiling.products import run_products

    report: OnProgress = on_progress or (lambda _: None)
    profiled = ProfiledModel(bundle.load_backbone())
    store = ExpertStore(bundle, profiled.layers, max_bytes=options.expert_bytes)
    tokens = torch.from_numpy(windows)
    layers_done = _counter(report, "similarity", len(profiled.layers))
    counts, estimates = run_products(
        profiled,
        store,
        tokens,
        widths=options.widths,
        rotation=options.rotation,
        on_layer=lambda: layers_done(1),
    )
    if not store.resident:
        _log.warning(
            "the experts need more than %d bytes of memory: sensitivity and amplification are "
            "left out of the profile",
            options.expert_bytes,
        )
        return counts, {**estimates, **_unmeasured(len(profiled.layers))}
    sizes = estimates["output_norm"].value
    return counts, {
        **estimates,
        **_measure_effects(profiled, store, tokens, sizes, options, report),
    }


def _measure_effects(
    profiled: ProfiledModel,
    store: ExpertStore,
    tokens: Tensor,
    output_norm: NDArray[np.float64],
    options: ProfileOptions,
    report: OnProgress,
) -> dict[str, Estimate]:
    """Sensitivity, response and amplification, on evenly spread windows."""
    from siftmoe.models.profiling.amplification import RELATIVE_SIZE, measure_amplification
    from siftmoe.models.profiling.response import RELATIVE_SIZE as RESPONSE_SIZE
    from siftmoe.models.profiling.response import measure_response
    from siftmoe.models.profiling.sensitivity import measure_sensitivity

    count = min(len(tokens), EFFECT_WINDOWS)
    some = tokens[np.linspace(0, len(tokens) - 1, count).round().astype(np.int64)]
    return {
        "sensitivity": measure_sensitivity(
            profiled,
            store,
            some,
            seed=options.seed,
            on_windows=_counter(report, "sensitivity", count),
        ),
        "response": measure_response(
            profiled,
            store,
            some,
            sizes=(RESPONSE_SIZE * output_norm).tolist(),
            seed=options.seed,
            on_windows=_counter(report, "response", count),
        ),
        **measure_amplification(
            profiled,
            store,
            some,
            sizes=(RELATIVE_SIZE * output_norm).tolist(),
            seed=options.seed,
            on_windows=_counter(report, "amplification", count),
        ),
    }


def calibration_of(
    bundle: Bundle, text: CalibrationText, options: ProfileOptions, *, num_tokens: int
) -> Calibration:
    """Return the conditions under which a profile is, or would be, measured."""
    from siftmoe.models.profiling.experts import fits_in_memory

    return Calibration(
        model_hash=bundle.manifest.model_hash,
        text_name=text.name,
        text_sha256=text.sha256,
        max_tokens=options.max_tokens,
        window=options.window,
        seed=options.seed,
        num_tokens=num_tokens,
        widths=options.widths,
        rotation=options.rotation,
        with_gradients=fits_in_memory(bundle, max_bytes=options.expert_bytes),
    )


def _unmeasured(num_layers: int) -> dict[str, Estimate]:
    """NaN estimates of the quantities that need all experts in memory."""
    names = (
        "sensitivity",
        "response",
        "amplification_prefill",
        "amplification_decode",
        "final_norm",
    )
    unknown = {name: np.full(num_layers if DIMENSIONS[name] else (), np.nan) for name in names}
    return {name: Estimate(values, values) for name, values in unknown.items()}


def _counter(report: OnProgress, stage: Stage, total: int) -> Callable[[int], None]:
    done = 0

    def count(more: int) -> None:
        nonlocal done
        done += more
        report(ProfileProgress(stage=stage, done=done, total=total))

    return count
