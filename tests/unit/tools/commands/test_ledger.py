from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from siftmoe.coordinator.ledger.energy import Quantity
from siftmoe.coordinator.ledger.store import BoardRow, Ledger, SoundingRow
from siftmoe.radio.channel.link import Source
from siftmoe.tools.cli import main
from siftmoe.tools.results.policies import LEDGER_FILE
from siftmoe.tools.showing.quantities import quantity

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def measured(run: Path) -> Path:
    """A run's folder, with a pilot exchange and a board in its last run."""
    with Ledger.resume(run / LEDGER_FILE) as ledger:
        ledger.record(
            SoundingRow(
                time_s=0.0,
                agent="a",
                direction="up",
                tx_power_w=1e-3,
                tx_power_std_w=1e-4,
                power_source=Source.MEASURED,
                airtime_s=0.01,
                airtime_source=Source.MEASURED,
                energy_j=1e-5,
                energy_std_j=1e-6,
                carrier_hz=2.4e9,
                detected=False,
                reason="no burst found",
            ),
            *(
                BoardRow(
                    agent=agent,
                    rails="VDD_IN",
                    energy_j=50.0,
                    energy_std_j=0.4,
                    idle_power_w=4.0,
                    idle_power_std_w=0.1,
                    duration_s=10.0,
                    net_j=10.0,
                    net_std_j=0.3,
                    samples=200,
                    longest_gap_s=0.06,
                )
                for agent in ("a", "b")
            ),
        )
    return run


def test_sums_are_printed_with_their_uncertainties(
    measured: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["ledger", str(measured)]) == 0
    lines = [
        " ".join(line.replace("│", " ").split()) for line in capsys.readouterr().out.splitlines()
    ]
    # 3 steps of 2 tokens; up 3 µJ and down 4 µJ a step, a tenth of it uncertain.
    assert any(
        line.startswith("modelled sum") and "(21 ± 2.1) µJ" in line and "(3.5 ± 0.35) µJ" in line
        for line in lines
    ), lines
    assert any(
        line.startswith("measured pilots up 0 of 1 heard") and "(10 ± 1) µJ" in line
        for line in lines
    ), lines
    assert any(
        line.startswith("sum") and "(100 ± 0.57) J" in line and "(20 ± 0.42) J" in line
        for line in lines
    ), lines


def test_the_sums_can_be_read_by_programs(
    measured: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["ledger", str(measured / LEDGER_FILE), "--json"]) == 0
    runs = {run["run"]: run for run in json.loads(capsys.readouterr().out)["runs"]}
    assert runs["topk"]["tokens"] == 6
    assert runs["topk"]["by_source"]["modelled"]["energy_std_j"] == pytest.approx(2.1e-6)
    assert runs["topk"]["boards_total"] is None
    assert runs["siftmoe"]["soundings"][0]["detected"] == 0
    assert runs["siftmoe"]["boards_total"]["net_std_j"] == pytest.approx(0.3 * 2**0.5)
    assert runs["siftmoe"]["boards"][1]["agent"] == "b"


def test_a_run_without_boards_says_so(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ledger", str(run)]) == 0
    assert "no board with power sensors" in capsys.readouterr().out
    assert main(["ledger", str(run / "nothing")]) == 1
    assert "does not exist" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (Quantity(1.234e-5, 2e-7), "(12.34 ± 0.2) µJ"),
        (Quantity(0.0, 3e-3), "(0 ± 3) mJ"),
        (Quantity(2.0, 0.0), "2 J"),
        (Quantity(0.0, 0.0), "0 J"),
        (Quantity(float("nan"), float("nan")), "-"),
    ],
)
def test_quantities_have_one_prefix(value: Quantity, text: str) -> None:
    assert quantity(value, "J") == text
