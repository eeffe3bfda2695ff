"""The measured similarity of a model's experts, and what follows from it. Needs no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from siftmoe.models.errors import ProfileMissing
from siftmoe.models.similarity.quantities import DIMENSIONS, NARROW, SERVING, Estimate, Serving
from siftmoe.models.vectors.packing import FLOAT_WIDTHS

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from siftmoe.models.similarity.calibration import Calibration

    FloatArray = NDArray[np.float64]
    IntArray = NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """The measured similarity of a model's experts; `quantities` lists the arrays."""

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
    narrow_deviation: Estimate
    narrow_scale: Estimate
    narrow_scaled_deviation: Estimate
    narrow_price_scale: Estimate
    narrow_square: Estimate
    narrow_scaled_square: Estimate
    reply_error: Estimate
    sensitivity: Estimate
    response: Estimate
    amplification_prefill: Estimate
    amplification_decode: Estimate
    final_norm: Estimate

    def __post_init__(self) -> None:
        if self.counts.ndim != 2:
            raise ValueError(f"profile: counts must be [L, E], has shape {self.counts.shape}")
        layers, experts = self.counts.shape
        sizes = {"L": layers, "W": len(self.widths), "E": experts, "X": experts + 1}
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

    @property
    def widths(self) -> tuple[int, ...]:
        """Few-bit widths that were measured."""
        return self.calibration.widths

    def serving(self, width: int) -> Serving:
        """Return the cost of serving when tokens travel at a width.

        Parameters
        ----------
        width : int, bit
            16 and more count as exact.

        Raises
        ------
        ProfileMissing
            If it was not measured.
        """
        if width in FLOAT_WIDTHS:
            return Serving(**{name: getattr(self, name) for name in SERVING})
        at = self._width_index(width)
        narrow: dict[str, Estimate] = {name: getattr(self, NARROW + name) for name in SERVING}
        return Serving(
            **{name: Estimate(e.value[:, at], e.error[:, at]) for name, e in narrow.items()}
        )

    def reply_share(self, width: int) -> FloatArray:
        """Squared error of outputs returned at a width, relative to their square, (L,).

        Raises
        ------
        ProfileMissing
            If it was not measured.
        """
        if width in FLOAT_WIDTHS:
            return np.zeros(self.num_layers)
        share: FloatArray = self.reply_error.value[:, self._width_index(width)]
        return share

    def _width_index(self, width: int) -> int:
        if width not in self.widths:
            measured = ", ".join(map(str, self.widths)) or "none"
            raise ProfileMissing(
                f"the profile has no width of {width} bits (measured: {measured}); measure it "
                f"again with 'siftmoe prepare … --calibration TEXT --replace-profile'"
            )
        return self.widths.index(width)

    def price(
        self,
        *,
        rescale: bool = True,
        measured: bool = False,
        width: int = 16,
        reply_width: int = 16,
    ) -> Estimate:
        r"""Return the expected loss by one slot's deviation, per squared gate weight.

        This project's own derivation (docs/explanation/theory.md, section 8):

        .. math:: q_{ij} = \tfrac12\, a\,
            \frac{\mathbb E[w^2\,\|y_i - c_{ij}\,y_j\|^2]}{\mathbb E[w^2]}

        An output that is returned in few bits adds an independent error:
        :math:`\tfrac12 a\,\rho_b` times the square of the returned output.

        Parameters
        ----------
        rescale : bool
            With the least-squares factor c; otherwise c = 1.
        measured : bool
            Use the ``response`` to deviations of realistic size for a, which includes changes of
            later routing, instead of the Fisher ``sensitivity``.
        width, reply_width : int, bit
            Widths in which tokens travel and outputs are returned.

        Returns
        -------
        Estimate of (L, E, E+1) float64, nat
            Such a slot costs about :math:`w^2 q_{ij}`.

        Raises
        ------
        ProfileMissing
            If one of them was not measured.
        """
        factor = self.response if measured else self.sensitivity
        if not np.isfinite(factor.value).all():
            raise ProfileMissing(_no_gradients("sensitivity"))
        serving = self.serving(width)
        square = serving.scaled_square if rescale else serving.square
        skip = square.value[:, :, -1:]  # [L, E, 1], the square of the exact output
        # the residual of a least-squares fit is orthogonal: ‖c y_j‖² = ‖y_i‖² − ‖y_i − c y_j‖²
        returned = np.maximum(skip - square.value, 0.0) if rescale else skip
        share = self.reply_share(reply_width)[:, None, None]
        a, a_error = factor.value[:, None, None], factor.error[:, None, None]
        total = square.value + share * returned
        total[:, :, -1] = square.value[:, :, -1]  # skip: nothing is returned
        error = 0.5 * np.hypot(a * square.error, a_error * total)
        return Estimate(0.5 * a * total, error)  # [L, E, E+1]

    def amplification(self, *, prefill: bool) -> Estimate:
        """Ratio of the final deviation to a layer's deviation, (L,).

        Raises
        ------
        ProfileMissing
            If it was not measured.
        """
        estimate = self.amplification_prefill if prefill else self.amplification_decode
        if np.isnan(estimate.value).all():
            raise ProfileMissing(_no_gradients("amplification"))
        return estimate


def _no_gradients(what: str) -> str:
    return (
        f"the profile has no {what}: it was measured with experts larger than the memory allowed; "
        f"measure it again with a larger --expert-memory and --replace-profile"
    )
