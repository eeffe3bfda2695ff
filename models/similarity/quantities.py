r"""The measured quantities of a profile, and their layout. Needs no torch.

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

The six ``narrow_`` arrays are the cost of serving when the token travels in few bits per entry, by
the ``widths`` of the calibration: :math:`y_j = \mathrm{FFN}_j(Q_b z)`, while y_i is computed from
the exact token. At these widths a slot's own expert is not exact either.

Every mean has its standard error. docs/explanation/profile.md has the formulas.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    FloatArray = NDArray[np.float64]

#: Cost of serving a slot by an expert, measured at every width.
SERVING: Final = (
    "deviation",
    "scale",
    "scaled_deviation",
    "price_scale",
    "square",
    "scaled_square",
)
#: Prefix of a name of `SERVING`: the same for tokens that travel in few bits.
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


@dataclass(frozen=True, slots=True)
class Estimate:
    """A measured array and its standard error; NaN where nothing was measured.

    Standard errors take tokens as independent; windows, for what is measured on whole windows.
    """

    value: FloatArray
    error: FloatArray


@dataclass(frozen=True, slots=True, kw_only=True)
class Serving:
    """Cost of serving slots of one expert by another, for tokens that travel at one width.

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
