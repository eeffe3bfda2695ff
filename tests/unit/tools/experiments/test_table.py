"""From outcomes to rows, intervals and savings at a stated rise of perplexity."""

from __future__ import annotations

import math

import msgspec
import pytest

from siftmoe.tools.comparing.stated_loss import Trial
from siftmoe.tools.experiments.cells.knobs import find_knob, policy_of
from siftmoe.tools.experiments.cells.records import Cell, Outcome, Setting, TaskRecord
from siftmoe.tools.experiments.table import mean_of, more_energy_at, rows_of, saved_at


def outcome(curve, *, uplink_j, perplexity, seed=0, value=None, downlink_j=0.0, **more):
    record = TaskRecord(
        task="perplexity",
        metrics={"perplexity": (perplexity, 0.1), "next_token_accuracy": (0.25, 0.01)},
        tokens=100,
        channel_states=12,
        uplink_j=uplink_j,
        downlink_j=downlink_j,
        airtime_s=0.1,
        latency_s=0.1,
        latency_uniform_s=0.2,
        latency_optimal_s=0.1,
        kept=1.0,
        replaced=0.0,
        skipped=0.0,
        infeasible=0.0,
        **more,
    )
    cell = Cell(model="tiny", curve=curve, template="siftmoe:price={}", value=value, seed=seed)
    return Outcome(cell=cell, policy="p", value=value, records=(record,))


def test_a_row_is_compared_with_topk_on_its_own_seed():
    rows = rows_of(
        [
            outcome("topk", uplink_j=4.0, perplexity=20.0, seed=0),
            outcome("topk", uplink_j=8.0, perplexity=30.0, seed=1),
            outcome("siftmoe", uplink_j=2.0, perplexity=33.0, seed=1, value=1.0),
        ]
    )
    assert rows[2]["saved"] == pytest.approx(0.75)
    assert rows[2]["perplexity_rise"] == pytest.approx(0.1)
    assert rows[2]["accuracy_change"] is None
    assert rows[0]["saved"] == rows[0]["perplexity_rise"] == 0.0


def test_what_is_saved_is_a_share_of_both_directions():
    rows = rows_of(
        [
            outcome("topk", uplink_j=4.0, downlink_j=6.0, perplexity=20.0),
            outcome("siftmoe", uplink_j=1.0, downlink_j=4.0, perplexity=20.0, value=1.0),
        ]
    )
    assert rows[1]["radio_j"] == 5.0
    assert rows[1]["saved"] == rows[1]["relative"] == pytest.approx(0.5)
    assert rows[1]["saved_uplink"] == pytest.approx(0.75)


def test_another_channel_is_no_reference():
    other = outcome("siftmoe", uplink_j=2.0, perplexity=33.0, value=1.0)
    cell = msgspec.structs.replace(other.cell, setting=Setting(bandwidth_hz=1e6))
    rows = rows_of(
        [outcome("topk", uplink_j=4.0, perplexity=20.0), msgspec.structs.replace(other, cell=cell)]
    )
    assert rows[1]["saved"] is None


def test_an_audit_is_spread_by_layer():
    layer = {"tokens": 10.0, "exact": 6.0, "within": 9.0, "measured": 2.0, "bound": 8.0}
    (row, *rest) = rows_of([outcome("s", uplink_j=1.0, perplexity=20.0, layers=(layer, layer))])
    assert len(rest) == 1
    assert (row["curve"], row["within"], row["deviating"]) == ("layer 0", 0.9, 0.4)
    assert row["within_deviating"] == 0.75
    assert row["measured_over_bound"] == 0.25


def test_the_interval_is_students():
    mean = mean_of([1.0, 2.0, 3.0, None, math.nan])
    # t of 2 degrees of freedom at 0.975 is 4.30265, the standard error 1/sqrt(3)
    assert (mean.value, mean.count) == (2.0, 3)
    assert mean.half_width == pytest.approx(4.302653 / math.sqrt(3.0))
    assert math.isinf(mean_of([1.0]).half_width)
    assert math.isnan(mean_of([]).value)


def test_savings_are_read_between_points_and_never_beyond_them():
    rows = [
        {"seed": 0, "perplexity_rise": 0.02, "saved": 0.2},
        {"seed": 0, "perplexity_rise": 0.04, "saved": 0.4},
        {"seed": 1, "perplexity_rise": 0.04, "saved": 0.6},
    ]
    assert saved_at(rows, 0.03).value == pytest.approx((0.3 + 0.45) / 2)
    assert saved_at(rows, 0.01).value == pytest.approx((0.1 + 0.15) / 2)
    assert math.isnan(saved_at(rows, 0.05).value)


def test_a_price_counts_energies_of_a_token():
    cell = Cell(model="tiny", curve="s", template="siftmoe:price={}:rescale=true", value=3.0)
    spec = policy_of(cell, 3.0, unit_j=2e-9)
    assert spec.options == {"price": pytest.approx(6e-9), "rescale": True}
    other = Cell(model="tiny", curve="d", template="des:threshold={}", value=0.7)
    assert policy_of(other, 0.7, unit_j=2e-9).options == {"threshold": 0.7}


class Trials:
    """Perplexity rises by the square of a threshold's distance from 1."""

    def __init__(self, cell):
        self.cell = cell
        self.emulation = self
        self.tried = []

    def unit_j(self, _setting):
        return 1.0

    def run(self, spec, *, draw):
        if spec.name == "topk":
            return Trial(perplexity=20.0, energy_j=1.0)
        threshold = spec.options["threshold"]
        self.tried.append((threshold, draw))
        luck = (0.5, 1.0, 1.5, 1.0)[draw]
        perplexity = 20.0 * (1.0 + luck * (1.0 - threshold) ** 2)
        return Trial(perplexity=perplexity, energy_j=threshold)


def test_a_knob_is_set_so_that_the_limit_over_all_draws_keeps_the_loss():
    trials = Trials(Cell(model="tiny", curve="d", template="des:threshold={}", loss=0.04))
    found = find_knob(trials)
    assert 0.85 * 0.04 <= found.upper <= 0.04
    assert found.loss == pytest.approx((1.0 - found.value) ** 2)
    assert found.loss < found.upper
    assert len(trials.tried) <= 8 + 5 * 4


def test_a_loss_that_cannot_be_reached_gives_the_nearest():
    trials = Trials(Cell(model="tiny", curve="d", template="des:threshold={}", loss=0.9))
    assert find_knob(trials).value == pytest.approx(0.5, abs=0.02)


def test_energies_are_compared_at_equal_quality_seed_by_seed():
    rows = rows_of(
        [
            *(outcome("topk", uplink_j=10.0, perplexity=20.0, seed=seed) for seed in (0, 1)),
            *(outcome("ours", uplink_j=1.0, perplexity=21.0, seed=s, value=1.0) for s in (0, 1)),
            outcome("theirs", uplink_j=2.0, perplexity=21.0, seed=0, value=1.0),
            outcome("theirs", uplink_j=1.0, perplexity=20.2, seed=1, value=1.0),
        ]
    )
    curves = {name: [r for r in rows if r["curve"] == name] for name in ("ours", "theirs")}
    found = more_energy_at(curves["ours"], curves["theirs"], 0.05)
    assert found.value == pytest.approx(-0.5)  # half of it on the first seed
    assert found.count == 1  # on the second their curve ends before
    early = more_energy_at(curves["ours"], curves["theirs"], 0.01)
    # 0.82 over 0.84 on the first, 0.82 over 0.1 on the second, joined from (0, 0) on
    assert early.value == pytest.approx((0.82 / 0.84 + 0.82 / 0.1) / 2 - 1.0)
