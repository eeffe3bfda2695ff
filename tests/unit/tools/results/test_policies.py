"""Results read from a run's folder: sums of the ledger and scores, finished or interrupted."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from ledger_rows import burst, step

from siftmoe.coordinator.errors import LedgerError
from siftmoe.coordinator.ledger.store import Ledger, SoundingRow
from siftmoe.radio.channel.link import Source
from siftmoe.tools.results.policies import LEDGER_FILE, SCORES_FILE, load_results, save_scores
from siftmoe.tools.showing.report import CONFIG_FILE

if TYPE_CHECKING:
    from pathlib import Path


def test_a_policys_figures_are_the_ledgers_sums(run: Path) -> None:
    topk, interrupted = load_results(run)
    assert (topk.policy, topk.num_tokens) == ("topk", 6)
    assert topk.uplink_j_per_token == pytest.approx(3 * 3e-6 / 6)
    assert topk.downlink_j_per_token == pytest.approx(3 * 4e-6 / 6)
    assert topk.energy_j_per_token == pytest.approx(3 * 7e-6 / 6)
    assert topk.radiated_share == 1.0
    # modelled energies of all links share the user's radio: their errors add up
    assert topk.energy_std_j_per_token == pytest.approx(0.1 * 3 * 7e-6 / 6)
    assert topk.energy_sources == ("modelled",)
    assert topk.latency_s_per_token == pytest.approx(0.1 / 2)
    assert topk.airtime_s_per_token == pytest.approx(0.06 / 2)
    assert topk.tokens_per_s == pytest.approx(6 / 1.5)
    assert (topk.kept, topk.replaced, topk.skipped) == (0.75, 0.0, 0.25)
    assert topk.gains_by_agent == {"a": [1e-7] * 3, "b": [2e-7] * 3}
    assert topk.metrics == {"perplexity": (20.5, 1.5)}
    assert topk.answer == " of <items>."
    assert (interrupted.policy, interrupted.metrics, interrupted.num_tokens) == ("topk-1", {}, 2)


def test_pilots_and_circuits_are_in_the_sum(run: Path) -> None:
    with Ledger.resume(run / LEDGER_FILE) as ledger:
        ledger.start_run("sounded")
        ledger.add(burst(0, energy_j=4e-6, control_j=1e-6, circuit_tx_j=2e-6, circuit_rx_j=3e-6))
        ledger.commit(step(0, tokens=2))
        ledger.record(
            SoundingRow(
                **{"time_s": 0.0, "agent": "a", "direction": "down", "tx_power_w": 1.0},
                **{"tx_power_std_w": 0.0, "power_source": Source.DERIVED, "airtime_s": 1e-6},
                **{"airtime_source": Source.MEASURED, "energy_j": 1e-6, "energy_std_j": 0.0},
                **{"carrier_hz": 2.4e9, "detected": False},
            )
        )
    sounded = load_results(run)[-1]
    assert sounded.policy == "sounded"
    assert sounded.energy_j_per_token == pytest.approx(10e-6 / 2)
    assert sounded.parts_j_per_token == {
        ("hidden states up", "user"): pytest.approx(3e-6 / 2),
        ("control", "user"): pytest.approx(1e-6 / 2),
        ("pilots", "helpers"): pytest.approx(1e-6 / 2),
        ("circuits sending", "user"): pytest.approx(2e-6 / 2),
        ("circuits receiving", "helpers"): pytest.approx(3e-6 / 2),
    }
    assert sounded.radiated_share == pytest.approx(0.5)


def test_scores_are_written_whole(run: Path) -> None:
    save_scores(run, {"topk": {"answer": "x", "metrics": {}}})
    assert json.loads((run / SCORES_FILE).read_text())["topk"]["answer"] == "x"
    assert sorted(path.name for path in run.iterdir()) == [CONFIG_FILE, LEDGER_FILE, SCORES_FILE]


def test_damaged_scores_are_named(run: Path) -> None:
    (run / SCORES_FILE).write_text('{"topk": ')
    with pytest.raises(ValueError, match=r"scores\.json' is damaged: .*remove it to go on"):
        load_results(run)
    (run / SCORES_FILE).unlink()
    assert [result.metrics for result in load_results(run)] == [{}, {}]


def test_a_ledger_without_a_step_is_told(tmp_path: Path) -> None:
    Ledger.create(tmp_path / LEDGER_FILE, label="start").close()
    with pytest.raises(ValueError, match="holds no step; there is nothing to report"):
        load_results(tmp_path)


def test_a_folder_without_a_ledger_is_told(tmp_path: Path) -> None:
    with pytest.raises(LedgerError, match="does not exist"):
        load_results(tmp_path)
