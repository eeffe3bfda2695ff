"""Tables of several widths, and the widths that each policy sends."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from profiles import EXPERTS, LAYERS, profile_of

from siftmoe.coordinator.policies.setup import PreparedPolicy, prepare_policy
from siftmoe.coordinator.policies.spec import PolicySpec
from siftmoe.coordinator.selection.profiled import (
    channel_nats,
    paper_tables,
    price_tables,
)
from siftmoe.coordinator.selection.widths import Widths
from siftmoe.models.errors import ProfileMissing
from siftmoe.models.similarity.profile import Profile

ALL = Widths((2, 3, 4, 5, 6, 8, 16), (2, 3, 4, 5, 6, 8, 16))


@pytest.fixture(scope="module")
def profile() -> Profile:
    return profile_of(4)


def prepared(text: str, profile: Profile | None, **options: Any) -> PreparedPolicy:
    shape: Any = SimpleNamespace(num_layers=LAYERS, num_experts=EXPERTS)
    return prepare_policy(PolicySpec.parse(text), shape=shape, profile=profile, **options)


@pytest.mark.parametrize("rescale", [True, False])
def test_every_width_has_its_own_figures(profile: Profile, rescale: bool) -> None:
    tables = price_tables(profile, price_j_per_nat=1e-6, rescale=rescale, widths=ALL)
    for layer, table in enumerate(tables):
        assert table.narrow is not None
        assert table.narrow.width == ALL.up
        np.testing.assert_array_equal(table.deviation, table.narrow.deviation[-1])
        measured = [profile.price(rescale=rescale, width=width).value[layer] for width in ALL.up]
        for b in range(len(ALL.up)):
            wanted = np.max(measured[b:], axis=0)  # a wider vector counts as no worse
            np.testing.assert_array_equal(table.narrow.deviation[b], wanted)
        # of answers only their noise is kept: those of a width cost what the profile says, a
        # wider one no more, and none more than everything that returns
        noise, at = table.narrow.reply_noise, ALL.down.index(6)
        shares = [profile.reply_share(width)[layer] for width in ALL.down]
        assert noise[at] == min(1.0, max(shares[at:]))
        own = profile.price(rescale=rescale).value[layer]
        answered = profile.price(rescale=rescale, reply_width=6).value[layer]
        returned = (answered - own)[:, :-1] / shares[at]
        skip = own[:, -1:]
        wanted = np.maximum(skip - own[:, :-1], 0.0) if rescale else skip * np.ones_like(returned)
        np.testing.assert_allclose(returned, wanted, rtol=1e-12, atol=1e-15)
        assert table.narrow.fitted is rescale
        scale = profile.serving(4).price_scale.value[layer]
        wanted = scale if rescale else np.ones_like(scale)
        np.testing.assert_array_equal(table.narrow.scale[ALL.up.index(4)], wanted)


def test_one_narrow_width_is_no_choice(profile: Profile) -> None:
    (table, *_) = paper_tables(profile, tolerance=0.3, widths=Widths((4,), (16,)))
    assert table.narrow is None
    assert table.width == 4
    np.testing.assert_array_equal(table.deviation, profile.serving(4).deviation.value[0])
    assert np.diagonal(table.deviation).min() > 0.0


def test_answers_in_few_bits_add_their_own_error(profile: Profile) -> None:
    wide = price_tables(profile, price_j_per_nat=1e-6, widths=Widths((16,), (16,)))
    narrow = price_tables(profile, price_j_per_nat=1e-6, widths=Widths((16,), (3,)))
    for layer in range(LAYERS):
        more = narrow[layer].deviation - wide[layer].deviation
        assert (more[:, :-1] >= 0.0).all()
        assert (np.diagonal(more) > 0.0).all()
        np.testing.assert_array_equal(more[:, -1], 0.0)  # nothing comes back of a skip
        own = 0.5 * profile.sensitivity.value[layer] * profile.reply_error.value[layer, 1]
        skip = profile.scaled_square.value[layer, :, -1]
        np.testing.assert_allclose(np.diagonal(more), own * skip)


def test_an_expert_never_seen_is_no_better_than_the_worst(profile: Profile) -> None:
    lacking = profile_of(4, never_routed=2)
    table = price_tables(lacking, price_j_per_nat=1e-6, widths=ALL)[0]
    assert table.narrow is not None
    assert np.isfinite(table.narrow.deviation).all()
    own = np.diagonal(table.narrow.deviation, axis1=1, axis2=2)  # [B, E]
    assert (own[:-1, 2] == own[:-1].max(axis=1)).all()
    assert own[-1, 2] == 0.0


def test_the_channel_alone_knows_a_mean_per_width(profile: Profile) -> None:
    nats, answers = channel_nats(profile, ALL)
    assert list(answers) == sorted(answers, reverse=True)
    assert answers[-1] == 0.0
    assert answers[0] > 0.0
    assert list(nats) == sorted(nats, reverse=True)
    assert nats[-1] == 0.0
    weight = profile.counts * profile.gate_weight.value**2 / profile.counts.sum()
    own = np.diagonal(profile.price(width=8).value, axis1=1, axis2=2)
    assert nats[ALL.up.index(8)] == pytest.approx((weight * own).sum())


@pytest.mark.parametrize(
    ("text", "bits", "widths"),
    [
        ("topk", 16, Widths((16,), (16,))),
        ("topk", 4, Widths((4,), (8,))),
        ("topk", "auto", Widths((16,), (16,))),
        ("topk:bits=3", "auto", Widths((3,), (8,))),
        ("topk:bits=3:downlink_bits=16", "auto", Widths((3,), (16,))),
        ("siftmoe:price=1e-6", "auto", ALL),
        ("siftmoe:price=1e-6:bits=8", "auto", Widths((8,), (8,))),
        ("siftmoe:tolerance=0.1:bits=auto", 16, ALL),
        ("skip-only:average=0.1", "auto", ALL),
        ("channel-width:price=1e-6", "auto", ALL),
        ("siftmoe:price=1e-6:downlink_bits=auto", 4, Widths((4,), ALL.down)),
        ("siftmoe:price=1e-6:downlink_bits=8", "auto", Widths(ALL.up, (8,))),
        ("des", "auto", Widths((16,), (16,))),
    ],
)
def test_a_policys_own_bits_go_before_the_runs(
    profile: Profile, text: str, bits: Any, widths: Widths
) -> None:
    found = prepared(text, profile, bits=bits)
    assert found.widths == widths
    assert (found.tables[0].narrow is not None) == widths.chosen


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("topk:bits=auto", "topk does not choose widths; .* siftmoe, skip-only, channel-width"),
        ("siftmoe:price=1:bits=7", "or one of 2, 3, .* got '7'"),
        ("topk:downlink_bits=auto", "topk does not choose widths"),
        ("channel-width:price=1", "channel-width chooses widths; give it bits=auto"),
        ("channel-width:tolerance=0.1:bits=auto", "has no budget tolerance; .* one of price"),
        ("gate-price:final=0.1", "has no budget final; .* one of price"),
    ],
)
def test_bits_that_a_policy_cannot_have_are_named(
    profile: Profile, text: str, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        prepared(text, profile)


def test_without_a_profile_nothing_is_chosen() -> None:
    with pytest.raises(ValueError, match="this bundle has no profile"):
        prepared("siftmoe:price=1:bits=auto", None)
    tables = prepared("topk:bits=4", None).tables
    assert tables[0].width == 4
    assert np.isnan(tables[0].deviation).all()


def test_a_width_that_was_not_measured_is_told() -> None:
    with pytest.raises(ProfileMissing, match=r"no width of 3 bits \(measured: 4, 8\)"):
        price_tables(profile_of(1, widths=(4, 8)), price_j_per_nat=1.0, widths=Widths((3,), (16,)))
