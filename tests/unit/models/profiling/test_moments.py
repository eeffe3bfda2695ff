from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from siftmoe.models.profiling.moments import (
    LayerProducts,
    NarrowProducts,
    layer_statistics,
    mean_of,
    ratio_of,
)

TOKENS, EXPERTS, TOP_K, WIDTH = 400, 5, 2, 7


@pytest.fixture(scope="module")
def layer():
    """Random outputs of similar experts [E, T, d], with expert 4 never routed to."""
    rng = np.random.default_rng(5)
    shared = rng.standard_normal((TOKENS, WIDTH))
    own = rng.standard_normal((EXPERTS, TOKENS, WIDTH))
    outputs = rng.uniform(0.5, 2.0, (EXPERTS, 1, 1)) * (shared + own)
    experts = np.array([rng.choice(EXPERTS - 1, TOP_K, replace=False) for _ in range(TOKENS)])
    weights = rng.dirichlet((1.0, 1.0), TOKENS)
    return outputs, experts, weights


def products_of(outputs, experts, weights):
    routed = outputs[experts, np.arange(TOKENS)[:, None]]  # [T, K, d]
    combined = (weights[..., None] * routed).sum(axis=1)
    return LayerProducts(
        experts=experts,
        weights=weights,
        square=np.square(outputs).sum(axis=-1).T,
        inner=np.einsum("tkd,etd->tke", routed, outputs),
        output_square=np.square(combined).sum(axis=-1),
    )


@pytest.fixture(scope="module")
def statistics(layer):
    return layer_statistics(products_of(*layer))


def sample_of(layer, expert):
    """Tokens routed to an expert: the outputs of all for them [E, n, d], and the weights."""
    outputs, experts, weights = layer
    token, slot = np.nonzero(experts == expert)
    return outputs[:, token], weights[token, slot]


@pytest.mark.parametrize("expert", range(EXPERTS - 1))
def test_every_figure_equals_its_definition(layer, statistics, expert):
    counts, found = statistics
    outputs, weight = sample_of(layer, expert)
    own = outputs[expert]
    assert counts[expert] == len(weight)
    assert found["gate_weight"].value[expert] == pytest.approx(weight.mean())
    for other in range(EXPERTS + 1):
        stand_in = outputs[other] if other < EXPERTS else np.zeros_like(own)
        distance = np.linalg.norm(own - stand_in, axis=1)
        where = (expert, other)
        scale, price_scale = found["scale"].value[where], found["price_scale"].value[where]
        assert found["deviation"].value[where] == pytest.approx(distance.mean())
        assert found["deviation"].error[where] == pytest.approx(
            distance.std(ddof=1) / np.sqrt(len(weight))
        )
        assert found["scaled_deviation"].value[where] == pytest.approx(
            np.linalg.norm(own - scale * stand_in, axis=1).mean()
        )
        assert found["square"].value[where] == pytest.approx(
            np.average(distance**2, weights=weight**2)
        )
        assert found["scaled_square"].value[where] == pytest.approx(
            np.average(((own - price_scale * stand_in) ** 2).sum(axis=1), weights=weight**2)
        )
        if other == EXPERTS:
            continue
        norms = np.linalg.norm(own, axis=1), np.linalg.norm(stand_in, axis=1)
        cosine = (own * stand_in).sum(axis=1) / norms[0] / norms[1]
        assert found["cosine"].value[where] == pytest.approx(cosine.mean())
        assert found["norm_ratio"].value[where] == pytest.approx(norms[1].mean() / norms[0].mean())


def test_norms_are_taken_over_all_tokens(layer, statistics):
    outputs, experts, weights = layer
    found = statistics[1]
    assert found["expert_norm"].value == pytest.approx(
        np.linalg.norm(outputs, axis=-1).mean(axis=1)
    )
    routed = outputs[experts, np.arange(TOKENS)[:, None]]
    combined = np.einsum("tk,tkd->td", weights, routed)
    assert found["output_norm"].value == pytest.approx(np.linalg.norm(combined, axis=1).mean())


@pytest.mark.parametrize(("name", "power"), [("scale", 0), ("price_scale", 2)])
def test_the_scale_is_the_best_one(layer, statistics, name, power):
    factor = statistics[1][name].value
    for expert in range(EXPERTS - 1):
        outputs, weight = sample_of(layer, expert)

        def loss(scale, other, outputs=outputs, weight=weight, expert=expert):
            left = outputs[expert] - scale * outputs[other]
            return (weight**power * (left**2).sum(axis=1)).sum()

        for other in set(range(EXPERTS)) - {expert}:
            best = loss(factor[expert, other], other)
            assert best < loss(factor[expert, other] * 1.01, other)
            assert best < loss(factor[expert, other] * 0.99, other)


def test_an_expert_costs_nothing_for_itself(statistics):
    itself = np.arange(EXPERTS - 1), np.arange(EXPERTS - 1)
    for name in ("deviation", "scaled_deviation", "square", "scaled_square"):
        assert (statistics[1][name].value[itself] == 0.0).all()
        assert (statistics[1][name].error[itself] == 0.0).all()
    for name in ("scale", "price_scale", "cosine"):
        assert (statistics[1][name].value[itself] == 1.0).all()


def test_rescaling_never_does_worse_than_skipping(statistics):
    square = statistics[1]["scaled_square"].value[: EXPERTS - 1]
    assert (square <= square[:, -1:] * (1 + 1e-12)).all()
    assert (statistics[1]["scale"].value[: EXPERTS - 1, -1] == 0.0).all()


def test_of_an_expert_that_is_never_routed_to_nothing_is_claimed(statistics):
    counts, found = statistics
    assert counts[EXPERTS - 1] == 0
    for name in ("gate_weight", "deviation", "scale", "cosine", "norm_ratio", "scaled_square"):
        assert np.isnan(found[name].value[EXPERTS - 1]).all()
        assert np.isnan(found[name].error[EXPERTS - 1]).all()
    assert np.isfinite(found["expert_norm"].value).all()


def test_a_silent_stand_in_is_as_good_as_none(layer):
    outputs, experts, weights = layer
    outputs = outputs.copy()
    outputs[4] = 0.0
    _, found = layer_statistics(products_of(outputs, experts, weights))
    assert (found["scale"].value[:4, 4] == 0.0).all()
    assert found["deviation"].value[:4, 4] == pytest.approx(found["deviation"].value[:4, 5])
    assert (found["cosine"].value[:4, 4] == 0.0).all()


def test_one_token_gives_a_figure_without_an_error():
    found = mean_of(np.array([[3.0, 4.0]]))
    assert found.value.tolist() == [3.0, 4.0]
    assert np.isnan(found.error).all()


def test_standard_errors_are_the_spread_between_repetitions():
    rng = np.random.default_rng(11)
    repetitions = 2000
    base = rng.gamma(2.0, size=(200, repetitions))
    found = ratio_of(base * rng.uniform(0.5, 1.5, base.shape), base)
    # the spread of 2000 values is known to 1.6%, one standard deviation
    assert found.error.mean() == pytest.approx(found.value.std(ddof=1), rel=0.06)


def narrow_of(layer, noise, seed):
    """Products with noisy outputs, and these outputs."""
    outputs, experts, _ = layer
    arrived = outputs + noise * np.random.default_rng(seed).standard_normal(outputs.shape)
    routed = outputs[experts, np.arange(TOKENS)[:, None]]  # [T, K, d]
    lost = np.random.default_rng(seed + 1).uniform(0.0, noise, routed.shape[:2])
    return arrived, NarrowProducts(
        square=np.square(arrived).sum(axis=-1).T,
        inner=np.einsum("tkd,etd->tke", routed, arrived),
        reply_square=lost,
    )


def test_every_figure_of_a_width_equals_its_definition(layer):
    outputs, experts, weights = layer
    arrived, narrow = zip(*(narrow_of(layer, noise, 7) for noise in (0.5, 0.1)), strict=True)
    _, found = layer_statistics(replace(products_of(*layer), narrow=narrow))
    for w in range(2):
        for expert in range(EXPERTS - 1):
            token, slot = np.nonzero(experts == expert)
            own, weight = outputs[expert, token], weights[token, slot]
            for other in range(EXPERTS + 1):
                there = arrived[w][other, token] if other < EXPERTS else np.zeros_like(own)
                where = (w, expert, other)
                distance = np.linalg.norm(own - there, axis=1)
                assert found["narrow_deviation"].value[where] == pytest.approx(distance.mean())
                scale = found["narrow_price_scale"].value[where]
                if other < EXPERTS:
                    best = (weight**2 * (own * there).sum(axis=1)).sum() / (
                        weight**2 * (there**2).sum(axis=1)
                    ).sum()
                    assert scale == pytest.approx(best)
                left = ((own - scale * there) ** 2).sum(axis=1)
                assert found["narrow_scaled_square"].value[where] == pytest.approx(
                    np.average(left, weights=weight**2)
                )
        # the expert itself is not exact, but closer than any other
        own_gap = np.diagonal(found["narrow_deviation"].value[w])[: EXPERTS - 1]
        assert (own_gap > 0.0).all()
        routed_square = np.square(outputs[experts, np.arange(TOKENS)[:, None]]).sum()
        lost = narrow[w].reply_square.sum()
        assert found["reply_error"].value[w] == pytest.approx(lost / routed_square)


def test_without_widths_their_arrays_are_empty(statistics):
    _, found = statistics
    assert found["reply_error"].value.shape == (0,)
    assert found["narrow_deviation"].value.shape == (0, EXPERTS, EXPERTS + 1)
