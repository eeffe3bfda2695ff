"""Sums over a run, apart by source, direction and kind of step."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from ledger_rows import burst, selection, step

from siftmoe.coordinator.ledger.rows import weakest
from siftmoe.coordinator.ledger.store import Ledger, StepRow
from siftmoe.radio.channel.link import Source


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.sqlite"


def test_an_aborted_steps_energy_stands_beside_the_sums(path: Path) -> None:
    with Ledger.create(path) as ledger:
        for number, aborted in enumerate((False, True, True)):
            ledger.add(burst(number, missed=number))
            if number < 2:
                ledger.add(burst(number, direction="down"))
            ledger.commit(step(number, aborted=aborted))
        total = ledger.summary()
        assert [row.aborted for row in ledger.rows(StepRow)] == [False, True, True]
    assert (total.steps, total.tokens) == (1, 2)
    assert total.energy().value == pytest.approx(0.02)
    assert total.aborted == 2
    assert total.aborted_energy_j == pytest.approx(0.03)


def test_outage_is_the_share_of_slots_that_were_sent_and_lost(path: Path) -> None:
    with Ledger.create(path) as ledger:
        ledger.add(selection(0, kept=2, replaced=1, skipped=5, lost=1))
        ledger.add(burst(0, tokens=2, missed=1))
        ledger.commit(step(0))
        total = ledger.summary()
        assert (total.lost, total.outage) == (1, 0.25)
        assert total.transmissions[0].missed == 1
        ledger.add(burst(1, tokens=2, missed=3))
        with pytest.raises(ValueError, match="cannot be booked"):
            ledger.commit(step(1))
        ledger.discard()


def test_sums_are_kept_apart_by_source_and_direction(path: Path) -> None:
    measured = {"power_source": Source.MEASURED, "airtime_source": Source.MEASURED}
    with Ledger.create(path) as ledger:
        ledger.add(burst(0, **measured))
        ledger.add(burst(0, agent="a1", **measured))
        ledger.add(burst(0, direction="down", **measured))
        ledger.add(burst(0, direction="down", agent="a1", **measured))
        ledger.add(burst(0, direction="down", agent="a1", **measured))
        ledger.add(burst(0, power_source=Source.MEASURED, energy_j=5.0, energy_std_j=0.0))
        ledger.commit(step(0))
        summary = ledger.summary()
    assert set(summary.sources) == {Source.MEASURED, Source.MODELLED}
    assert summary.energy(source=Source.MODELLED).value == 5.0
    assert summary.energy(source=Source.DERIVED).value == 0.0
    up = summary.energy(source=Source.MEASURED, direction="up")
    assert (up.value, up.std) == (pytest.approx(0.02), pytest.approx(0.002))  # one transmitter
    down = summary.energy(source=Source.MEASURED, direction="down")
    assert down.value == pytest.approx(0.03)
    assert down.std == pytest.approx(math.hypot(0.001, 0.002))  # two transmitters
    both = summary.energy(source=Source.MEASURED)
    assert both.std == pytest.approx(math.hypot(up.std, down.std))
    assert summary.energy_per_token(source=Source.MEASURED).value == pytest.approx(0.05 / 2)
    assert summary.airtime_per_token_s == pytest.approx(0.6 / 2)


def test_a_product_is_no_better_than_its_worse_factor() -> None:
    assert weakest(Source.MEASURED, Source.MEASURED) is Source.MEASURED
    assert weakest(Source.MEASURED, Source.DERIVED) is Source.DERIVED
    assert weakest(Source.MODELLED, Source.DERIVED) is Source.MODELLED
    assert burst(0, power_source=Source.DERIVED).energy_source is Source.MODELLED


def test_latency_is_split_and_counts_are_summed(path: Path) -> None:
    with Ledger.create(path) as ledger:
        for number in range(3):
            kind = "prefill" if number == 0 else "decode"
            ledger.add(selection(number))
            ledger.add(
                selection(number, layer=1, skipped=4, status="infeasible", excluded="a3: hot")
            )
            ledger.commit(step(number, kind=kind, tokens=8 if number == 0 else 2))
        everything, decode = ledger.summary(), ledger.summary(kind="decode")
    assert (everything.steps, everything.tokens) == (3, 12)
    assert (decode.steps, decode.tokens) == (2, 4)
    per_token = decode.latency_per_token
    assert per_token.total_s == pytest.approx(0.8 / 4)
    assert per_token.airtime_s == pytest.approx(0.4 / 4)
    assert per_token.rest_s == pytest.approx((0.8 - 2 * 0.38) / 4)
    assert (decode.kept, decode.replaced, decode.skipped) == (12, 4, 8)
    assert decode.shares["skipped"] == pytest.approx(8 / 24)
    assert everything.status == {"feasible": 3, "infeasible": 3}
    assert everything.excluded == {"a3: hot": 3}
    assert everything.predicted_energy_j == pytest.approx(3.0)


def test_an_empty_run_has_no_averages(path: Path) -> None:
    with Ledger.create(path) as ledger:
        summary = ledger.summary()
        assert ledger.last_step is None
    assert summary.sources == ()
    assert summary.energy().value == 0.0
    assert math.isnan(summary.energy_per_token().value)
    assert math.isnan(summary.latency_per_token.total_s)
    assert math.isnan(summary.shares["kept"])
