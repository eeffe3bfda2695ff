"""Uncertainties of sums, against drawn errors."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import pytest
from ledger_rows import board, burst, sounding, step

from siftmoe.coordinator.ledger.energy import Part, Quantity, total
from siftmoe.coordinator.ledger.store import Ledger
from siftmoe.radio.channel.link import Source

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

DRAWS = 40_000
NEPER_PER_DB = math.log(10.0) / 10.0


def errors(rng: np.random.Generator, std_db: float) -> NDArray[np.float64]:
    """Relative errors of a power whose level is uncertain by a normal number of dB."""
    return 10 ** (0.1 * std_db * rng.standard_normal(DRAWS)) - 1.0


def test_measured_powers_of_three_units_against_drawn_calibrations() -> None:
    rng = np.random.default_rng(1)
    energies = {"": 4.0, "a0": 3.0, "a1": 2.0}
    stds_db = {"": 0.2, "a0": 0.3, "a1": 0.25}
    drawn = np.zeros(DRAWS)
    parts = []
    for unit, energy in energies.items():
        relative = errors(rng, stds_db[unit])
        # Ten bursts of one unit all err by the same factor.
        drawn += sum(0.1 * energy * relative for _ in range(10))
        std = energy * NEPER_PER_DB * stds_db[unit]
        parts.append(
            Part(
                source=Source.MEASURED,
                direction="down" if unit else "up",
                energy_j=energy,
                std_j={unit: std},
            )
        )
    assert total(parts).value == pytest.approx(9.0)
    assert total(parts).std == pytest.approx(float(np.std(drawn)), rel=0.03)


def test_modelled_energies_against_drawn_errors_of_the_radio_that_all_links_share() -> None:
    rng = np.random.default_rng(2)
    shared = errors(rng, 0.3)
    energies = (3.0, 2.0, 1.0)
    drawn = sum(energy * shared for energy in energies)
    exact = total(
        Part(
            source=Source.MODELLED,
            direction=direction,
            energy_j=energy,
            std_j={f"a{n}": energy * NEPER_PER_DB * 0.3},
        )
        for n, (energy, direction) in enumerate(zip(energies, ("up", "down", "down"), strict=True))
    )
    assert exact.std == pytest.approx(float(np.std(drawn)), rel=0.03)


def test_noise_of_single_estimates_makes_it_a_bound() -> None:
    rng = np.random.default_rng(3)
    shared, energies = errors(rng, 0.2), (1.0,) * 8
    own = [errors(rng, 0.2) for _ in energies]
    drawn = sum(e * (shared + error) for e, error in zip(energies, own, strict=True))
    each = NEPER_PER_DB * math.hypot(0.2, 0.2)
    parts = [
        Part(source=Source.MODELLED, direction="up", energy_j=e, std_j={"": e * each})
        for e in energies
    ]
    true = float(np.std(drawn))
    assert true < total(parts).std < math.sqrt(2) * true


def test_sources_of_one_unit_are_never_taken_for_independent(tmp_path: Path) -> None:
    derived = {"power_source": Source.DERIVED, "airtime_source": Source.MEASURED}
    measured = {"power_source": Source.MEASURED, "airtime_source": Source.MEASURED}
    with Ledger.create(tmp_path / "ledger.sqlite") as ledger:
        ledger.add(burst(0, **measured, energy_j=1.0, energy_std_j=0.3))
        ledger.add(burst(0, **measured, energy_j=1.0, energy_std_j=0.4, direction="down"))
        ledger.add(burst(0, **derived, energy_j=1.0, energy_std_j=0.7, direction="down"))
        ledger.add(burst(0, **derived, energy_j=1.0, energy_std_j=0.7, agent="a1"))
        ledger.add(burst(0, energy_j=1.0, energy_std_j=0.2))
        ledger.record(sounding(energy_j=0.5, energy_std_j=0.1))
        ledger.record(sounding(energy_j=0.5, energy_std_j=0.1, direction="down", agent="a1"))
        ledger.commit(step(0))
        summary, decode = ledger.summary(), ledger.summary(kind="decode")
    by_source = summary.energy_by_source
    assert by_source[Source.MEASURED].value == pytest.approx(3.0)
    # The user's exchange errs with the user's bursts, a1's is another unit's.
    assert by_source[Source.MEASURED].std == pytest.approx(math.hypot(0.4, 0.4, 0.1))
    assert by_source[Source.DERIVED].std == pytest.approx(1.4)
    assert by_source[Source.MODELLED].std == pytest.approx(0.2)
    assert summary.radio_energy().std == pytest.approx(math.hypot(0.4, 0.4, 0.1) + 1.6)
    assert summary.energy().value == pytest.approx(5.0)
    assert summary.sounding_energy().value == pytest.approx(1.0)
    assert [(part.exchanges, part.detected) for part in summary.soundings] == [(1, 1), (1, 1)]
    assert decode.soundings == () == decode.boards


def test_boards_are_stated_gross_and_net_per_token(tmp_path: Path) -> None:
    with Ledger.create(tmp_path / "ledger.sqlite") as ledger:
        ledger.commit(step(0, tokens=4))
        assert math.isnan(ledger.summary().board_energy_per_token().value)
        ledger.record(board(), board(longest_gap_s=0.3), board(agent="a1", net_std_j=0.5))
        summary = ledger.summary()
    first, second = summary.boards
    assert (first.agent, first.energy, first.duration_s) == ("a0", Quantity(100.0, 1.0), 20.0)
    assert (first.net.std, first.samples, first.longest_gap_s) == (1.28, 2000, 0.3)
    assert (first.mean_power_w, second.agent) == (5.0, "a1")
    assert summary.board_energy().value == 150.0
    assert summary.board_energy().std == pytest.approx(math.hypot(1.0, 0.5))
    net = summary.board_energy_per_token(net=True)
    assert (net.value, net.std) == (7.5, pytest.approx(math.hypot(1.28, 0.5) / 4))


@pytest.mark.parametrize(
    ("quantity", "text"),
    [
        (Quantity(1.23456, 0.0321), "1.235 ± 0.032"),
        (Quantity(1.5e-6, 4e-7), "1.5e-06 ± 4e-07"),
        (Quantity(0.01, 3.0), "0.01 ± 3"),
        (Quantity(2.0, 0.0), "2"),
        (Quantity(math.nan, math.nan), "nan"),
    ],
)
def test_a_quantity_is_shown_to_the_digit_that_its_uncertainty_allows(
    quantity: Quantity, text: str
) -> None:
    assert str(quantity) == text
