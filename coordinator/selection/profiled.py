"""Makes layer tables from a bundle's similarity profile, one function per budget rule."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from siftmoe.coordinator.selection.budget import LayerBudgets
from siftmoe.coordinator.selection.problem import Budget, BudgetKind
from siftmoe.coordinator.selection.tables import LayerTables, WidthTables
from siftmoe.coordinator.selection.widths import HALF, Widths
from siftmoe.models.vectors.packing import FLOAT_WIDTHS

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from siftmoe.models.similarity.profile import Profile

    FloatArray = NDArray[np.float64]


def paper_tables(
    profile: Profile, *, tolerance: float, rescale: bool = False, widths: Widths = HALF
) -> list[LayerTables]:
    r"""Tables of the linear bound with a cap per token and layer.

    .. math:: \sum_i g_i F_{i,\varphi(i)} \le \epsilon_l = \eta\,\mathbb E\|y_l\|

    Parameters
    ----------
    profile : Profile
    tolerance : float
        :math:`\eta`, deviation that a layer may add to a token relative to the mean norm of the
        layer's output.
    rescale : bool
        Scale stand-ins by their least-squares factor, and use the deviation that remains.
    widths : Widths

    Raises
    ------
    ValueError
        If the tolerance is negative or not finite.
    ProfileMissing
        If a width was not measured.

    Notes
    -----
    The deviation is SiftMoE's (arXiv 2603.23888); that the tolerance is relative to the layer's
    norm is our reading, and the rescaling our own (docs/explanation/theory.md, sections 0 and 6).
    """
    budgets = LayerBudgets(
        kind=BudgetKind.PER_TOKEN,
        values=tuple(float(tolerance * norm) for norm in profile.output_norm.value),
    )
    return _linear_tables(profile, widths, budgets, rescale=rescale)


def amplified_tables(
    profile: Profile,
    *,
    final_tolerance: float,
    rescale: bool = False,
    prefill: bool = False,
    widths: Widths = HALF,
) -> list[LayerTables]:
    r"""Tables of the linear bound whose caps keep the model's last hidden state within a tolerance.

    .. math:: \epsilon_l = \frac{\eta\,\mathbb E\|h_L\|}{L A_l}

    Parameters
    ----------
    profile : Profile
    final_tolerance : float
        :math:`\eta`, deviation of the last hidden state relative to its mean norm.
    rescale : bool
        As `paper_tables`.
    prefill : bool
        Use the amplification :math:`A_l` measured with every token of a prefix disturbed instead
        of one token behind an undisturbed one.
    widths : Widths

    Raises
    ------
    ProfileMissing
        If the profile has no amplification, for one layer or all, or a width was not measured.
    ValueError
        If the tolerance is negative or not finite.

    Notes
    -----
    The form of SiftMoE's Theorem 1 as `siftmoe.coordinator.selection.budget` has it, with equal
    shares and measured, empirical amplifications (docs/explanation/theory.md, section 0).
    """
    amplification = profile.amplification(prefill=prefill).value
    budgets = LayerBudgets.from_final_tolerance(
        final_tolerance * float(profile.final_norm.value), amplification=amplification
    )
    return _linear_tables(profile, widths, budgets, rescale=rescale)


def price_tables(
    profile: Profile,
    *,
    price_j_per_nat: float,
    rescale: bool = True,
    measured: bool = False,
    widths: Widths = HALF,
) -> list[LayerTables]:
    r"""Tables of the price rule: energy against the loss that squared deviations cost.

    .. math:: \min \sum_n e_n(q_n) + \lambda \sum_{t,i} g_{t,i}^2\, q_{i,\varphi(i)}, \qquad
        q_{ij} = \tfrac12 a_l \frac{\mathbb E[w^2\|y_i - c_{ij}y_j\|^2]}{\mathbb E[w^2]}

    Parameters
    ----------
    profile : Profile
    price_j_per_nat : float, J
        :math:`\lambda`, the energy that one nat of loss is worth, the same in all layers.
    rescale : bool
        Scale stand-ins by c; without it c = 1.
    measured : bool
        Take for :math:`a_l` the response to deviations of realistic size instead of the Fisher
        sensitivity, see `Profile.price`.
    widths : Widths

    Raises
    ------
    ProfileMissing
        If the profile has no sensitivity, or a width was not measured.
    ValueError
        If the price is negative or not finite.

    Notes
    -----
    This project's own derivation (docs/explanation/theory.md, section 8).
    """
    back = 16 if widths.chosen else widths.down[0]

    def at(width: int) -> tuple[FloatArray, FloatArray]:
        nats = profile.price(
            rescale=rescale, measured=measured, width=width, reply_width=back
        ).value
        scale = profile.serving(width).price_scale.value
        return nats, scale if rescale else np.ones_like(scale)

    sensitivity = (profile.response if measured else profile.sensitivity).value
    budget = Budget(kind=BudgetKind.PRICE, value=price_j_per_nat)
    return [
        _layer_tables(
            layer,
            at,
            widths,
            noise=_reply_noise(profile, widths),
            fitted=rescale,
            budget=budget,
            weight_power=2,
            sensitivity=float(sensitivity[layer]),
        )
        for layer in range(profile.num_layers)
    ]


def channel_nats(profile: Profile, widths: Widths) -> tuple[tuple[float, ...], tuple[float, ...]]:
    r"""Average cost of a vector over all experts, by its width to helpers and back: nats.

    .. math:: D_b = \frac{\sum_{l,i} k_{l,i}\,\bar w_{l,i}^2\, q^{(b)}_{l,ii}}{\sum_{l,i} k_{l,i}}

    over layers and experts, with the counts k of tokens and the mean gate weights of the profile;
    for an answer :math:`\rho_{l,v}\, q_{l,i0}` in the place of q. Used by
    `siftmoe.coordinator.policies.baselines.channel_width`, which ignores the experts.
    """
    counts = profile.counts.astype(np.float64)
    weight = np.nan_to_num(counts * profile.gate_weight.value**2) / counts.sum()  # [L, E]
    up = []
    for width in widths.up:
        nats = profile.price(width=width).value
        own = np.nan_to_num(np.diagonal(nats, axis1=1, axis2=2))  # [L, E]
        up.append(float((weight * own).sum()))
    output = np.nan_to_num(profile.price().value[..., -1])  # [L, E]
    noise = _reply_noise(profile, widths)  # [V, L]
    back = [float((weight * output * share[:, None]).sum()) for share in noise]
    return _falling(up), _falling(back)


def _falling(nats: list[float]) -> tuple[float, ...]:
    """Where sampling noise puts a wider width above a narrower one, both get the larger."""
    return tuple(np.maximum.accumulate(nats[::-1])[::-1].tolist())


def _reply_noise(profile: Profile, widths: Widths) -> FloatArray:
    """Squared error of answers over what returns, by width and layer, (V, L)."""
    shares = np.stack([profile.reply_share(width) for width in widths.down])
    falling: FloatArray = np.maximum.accumulate(shares[::-1])[::-1]
    return np.minimum(falling, 1.0)


def _linear_tables(
    profile: Profile, widths: Widths, budgets: LayerBudgets, *, rescale: bool
) -> list[LayerTables]:
    # by the triangle inequality the deviation of the answer's rounding is added
    noise = np.sqrt(_reply_noise(profile, widths))  # [V, L]
    back = np.zeros_like(profile.deviation.value[..., -1:])
    if not widths.chosen:
        back = noise[0][:, None, None] * profile.deviation.value[..., -1:]

    def at(width: int) -> tuple[FloatArray, FloatArray]:
        serving = profile.serving(width)
        deviation = (serving.scaled_deviation if rescale else serving.deviation).value.copy()
        deviation[..., :-1] += back
        scale = serving.scale.value
        return deviation, scale if rescale else np.ones_like(scale)

    return [
        _layer_tables(layer, at, widths, noise=noise, fitted=False, budget=budgets.budget(layer))
        for layer in range(profile.num_layers)
    ]


def _layer_tables(
    layer: int,
    at: Callable[[int], tuple[FloatArray, FloatArray]],
    widths: Widths,
    *,
    noise: FloatArray,
    fitted: bool,
    budget: Budget,
    weight_power: int = 1,
    sensitivity: float | None = None,
) -> LayerTables:
    """Take a layer's tables of one width each way, or of several.

    ``at`` gives those of all layers at a width, with exact answers where there are several;
    ``noise`` (V, L) is that of the answers.
    """
    several = widths.chosen

    def table(width: int) -> tuple[FloatArray, FloatArray]:
        deviation, scale = at(width)
        exact = width in FLOAT_WIDTHS and (several or widths.down[0] in FLOAT_WIDTHS)
        return _known(deviation[layer], exact=exact), _known_scale(scale[layer])

    tables = [table(width) for width in widths.up]
    deviation, scale = tables[-1]
    narrow = None
    if several:
        if widths.up[-1] not in FLOAT_WIDTHS:
            deviation, scale = table(FLOAT_WIDTHS[0])
        stacked = np.stack([deviation for deviation, _ in tables])  # [B, E, E+1]
        narrow = WidthTables(
            width=widths.up,
            # where sampling noise puts a wider width above a narrower one, both get the larger
            deviation=np.maximum.accumulate(stacked[::-1])[::-1],
            scale=np.stack([scale for _, scale in tables]),
            reply_width=widths.down,
            reply_noise=noise[:, layer],
            fitted=fitted,
        )
    return LayerTables(
        deviation=deviation,
        scale=scale,
        budget=budget,
        weight_power=weight_power,
        sensitivity=sensitivity,
        width=widths.up[0] if narrow is None else 0,
        narrow=narrow,
    )


def _known(deviation: FloatArray, *, exact: bool) -> FloatArray:
    """Give experts without calibration tokens the layer's largest deviation.

    Where vectors are exact the diagonal stays 0; else it is the largest known one. Policies need
    finite figures, and all that is known of such an expert is that it is rarely routed to.
    """
    filled = np.where(np.isnan(deviation), np.nanmax(deviation), deviation)
    own = np.diagonal(deviation)
    kept = np.zeros_like(own) if exact else np.where(np.isnan(own), np.nanmax(own), own)
    filled[np.diag_indices(len(filled))] = kept
    return filled


def _known_scale(scale: FloatArray) -> FloatArray:
    return np.where(np.isnan(scale), 1.0, scale)
