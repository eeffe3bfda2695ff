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
``narrow_*``              L, W, E, E+1 ``deviation`` to ``scaled_square``, quantised tokens
``reply_error``           L, W         squared error of a quantised output over its square
``amplification_prefill`` L            final deviation per deviation of this layer, all tokens
``amplification_decode``  L            the same for one token behind an undisturbed prefix
``final_norm``            (scalar)     mean norm of the last hidden state
========================  ===========  =====================================================

``narrow_deviation`` and its five siblings are what serving costs when the token travels in few bits
an entry, by the ``widths`` of the calibration: :math:`y_j = \mathrm{FFN}_j(Q_b z)`, and y_i is of
the exact token. There a slot's own expert is not exact either.

Everything that is a mean comes with its standard error. docs/profile.md has the formulas.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import msgspec
import numpy as np

from siftmoe.models.errors import ProfileMissing
from siftmoe.models.vectors.packing import FLOAT_WIDTHS
from siftmoe.models.vectors.quantise import WIDTHS, Rotation

if TYPE_CHECKING:
    from numpy.typing import NDArray

    FloatArray = NDArray[np.float64]
    IntArray = NDArray[np.int64]

PROFILE_FORMAT = 2

#: What serving a slot by an expert costs, measured at every width.
SERVING: Final = (
    "deviation",
    "scale",
    "scaled_deviation",
    "price_scale",
    "square",
    "scaled_square",
)
#: Before a name of `SERVING`: the same with tokens that travel in few bits.
NARROW: Final = "narrow_"

#: Dimensions of each measured quantity: L layers, W widths, E experts, X experts and skip.
DIMENSIONS = {
    "gate_weight": "LE",
    "output_norm": "L",
    "expert_norm": "LE",
    "norm_ratio": "LEE",
    "cosine": "LEE",
    **dict.fromkeys(SERVING, "LEX"),
    **dict.fromkeys((NARROW + name for name in SERVING), "LWEX"),
    "reply_error": "LW",
    "sensitivity": "L",
    "response": "L",
    "amplification_prefill": "L",
    "amplification_decode": "L",
    "final_norm": "",
}


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
    widths : tuple of int, bit
        Few-bit widths that were measured, ascending.
    rotation : "none" or "hadamard"
        Of the rows before they are quantised.
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


@dataclass(frozen=True, slots=True)
class Estimate:
    """A measured array and its standard error; NaN where nothing was measured.

    Standard errors take tokens as independent; windows, for what is measured on whole windows.
    """

    value: FloatArray
    error: FloatArray


@dataclass(frozen=True, slots=True, kw_only=True)
class Serving:
    """What serving slots of an expert by another one costs, tokens travelling at one width.

    Parameters
    ----------
    deviation, scale, scaled_deviation, price_scale, square, scaled_square : Estimate
        (L, E, E+1), as the module's docstring lists them.
    """

    deviation: Estimate
    scale: Estimate
    scaled_deviation: Estimate
    price_scale: Estimate
    square: Estimate
    scaled_square: Estimate


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
        """Return what serving costs when tokens travel at a width.

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
        """Squared error of outputs that come back at a width, over their square, (L,).

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
        r"""Loss that one slot's deviation is expected to cost, per squared gate weight.

        This project's own derivation (docs/theory.md, section 8):

        .. math:: q_{ij} = \tfrac12\, a\,
            \frac{\mathbb E[w^2\,\|y_i - c_{ij}\,y_j\|^2]}{\mathbb E[w^2]}

        An output that comes back in few bits adds its own error, which is independent:
        :math:`\tfrac12 a\,\rho_b` times the square of what is returned.

        Parameters
        ----------
        rescale : bool
            With the least-squares factor c; without it c = 1.
        measured : bool
            Take for a the ``response`` to deviations of realistic size, which also has the
            routing that they flip, instead of the Fisher ``sensitivity``.
        width, reply_width : int, bit
            In which tokens travel, and outputs come back.

        Returns
        -------
        Estimate of (L, E, E+1) float64, nat
            A slot served so costs about :math:`w^2 q_{ij}`.

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
        # at the least-squares factor what comes back has the square that is not missing
        returned = np.maximum(skip - square.value, 0.0) if rescale else skip
        share = self.reply_share(reply_width)[:, None, None]
        a, a_error = factor.value[:, None, None], factor.error[:, None, None]
        total = square.value + share * returned
        total[:, :, -1] = square.value[:, :, -1]  # nothing comes back
        error = 0.5 * np.hypot(a * square.error, a_error * total)
        return Estimate(0.5 * a * total, error)  # [L, E, E+1]

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


def _no_gradients(what: str) -> str:
    return (
        f"the profile has no {what}: it was measured with experts larger than the memory allowed; "
        f"measure it again with a larger --expert-memory and --replace-profile"
    )
