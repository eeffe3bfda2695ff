"""Tables and pages of a run, finished or interrupted."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import pytest

from siftmoe.tools.cli import main
from siftmoe.tools.results.policies import LEDGER_FILE, load_results, load_scores, save_scores
from siftmoe.tools.showing.comparison_table import table_rows
from siftmoe.tools.showing.quantities import si
from siftmoe.tools.showing.remarks import remarks
from siftmoe.tools.showing.report import CONFIG_FILE

if TYPE_CHECKING:
    from pathlib import Path


def test_the_table_says_what_is_missing(run: Path) -> None:
    header, rows = table_rows(load_results(run))
    assert header[:2] == ["policy", "perplexity"]
    assert [row[:2] for row in rows] == [["topk", "20.50 ± 1.50"], ["topk-1", "-"]]
    assert all(len(row) == len(header) for row in rows)
    assert rows[0][header.index("uplink / token")] == "1.5 µJ ± 10 %"
    assert rows[0][header.index("energy / token")] == "3.5 µJ ± 10 %"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0 J"),
        (2.0, "2 J"),
        (0.0123456, "12.3 mJ"),
        (0.00099996, "1 mJ"),
        (1.5e-7, "150 nJ"),
        (3e-17, "3e-17 J"),
    ],
)
def test_figures_have_prefixes(value: float, text: str) -> None:
    assert si(value, "J") == text


def test_the_report_of_an_interrupted_run(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "elsewhere"
    assert main(["report", str(run), "--out", str(out)]) == 0
    assert capsys.readouterr().out == f"{out / 'report.html'}\n"
    page = (out / "report.html").read_text(encoding="utf-8")
    assert "tiny &amp; &lt;small&gt;" in page
    assert "of &lt;items&gt;." in page
    assert "<td>topk-1</td>" in page
    drawn = sorted(path.name for path in (out / "figures").iterdir())
    assert "perplexity.svg" in drawn
    assert "accuracy.svg" not in drawn
    assert page.count("<svg") == len(drawn)
    assert not (run / "report.html").exists()


def test_the_same_run_gives_the_same_report(run: Path) -> None:
    assert main(["report", str(run)]) == 0
    first = (run / "report.html").read_bytes()
    assert main(["report", str(run)]) == 0
    assert (run / "report.html").read_bytes() == first


@pytest.mark.parametrize("missing", [LEDGER_FILE, CONFIG_FILE])
def test_a_folder_that_is_no_run_is_one_line(
    run: Path, capsys: pytest.CaptureFixture[str], missing: str
) -> None:
    (run / missing).unlink()
    assert main(["report", str(run)]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("error: ")
    assert missing in captured.err
    assert captured.err.count("\n") == 1


def test_what_was_lost_or_spent_in_vain_is_remarked(run: Path) -> None:
    first, *others = load_results(run)
    assert (first.outage, first.aborted) == (0.0, 0)
    spoilt = dataclasses.replace(first, outage=0.0123, aborted=2, aborted_j=3e-6)
    assert remarks([spoilt, *others]) == [
        "topk: 1.23% of the slots sent missed their window; they are skipped, and their energy is "
        "counted.",
        "topk: 2 steps aborted after 3 µJ, which no figure contains.",
    ]


def test_a_fault_costs_one_line(run: Path) -> None:
    first, *others = load_results(run)
    assert (first.faults, first.faulted, first.attempts) == ({}, 0, 0)
    spoilt = dataclasses.replace(
        first,
        faults={"a": (2, "agent 'a' (tcp://x) is dead: its process is gone")},
        lost={"a": 12, "c": 5, "link to b": 3},
        lost_why={"a": "dead: its process is gone", "c": "hot: CPU 97 of 95 °C"},
        faulted=4,
        attempts=1,
        attempts_j=3e-6,
    )
    assert remarks([spoilt, *others]) == [
        "topk: a failed in 2 layers (first: agent 'a' (tcp://x) is dead: its process is gone) and "
        "was left out of 12 selections.",
        "topk: c was left out of 5 selections (hot: CPU 97 of 95 °C).",
        "topk: link to b was left out of 3 selections.",
        "topk: 4 slots skipped because the selected helper failed and no other took over.",
        "topk: 1 earlier attempt interrupted after 3 µJ, which no figure contains.",
    ]


def test_a_stated_loss_stands_with_its_errors_beside_the_test_rise(run: Path) -> None:
    stated = {
        "loss": 0.025,
        "price_j_per_nat": 1e-6,
        "trials": 12,
        "mean": 0.0221,
        "standard_error": 0.002,
        "upper": 0.0245,
        "level": 0.9,
        "draws": 4,
    }
    result = dataclasses.replace(load_results(run)[0], stated=stated, rise=(0.0232, 0.0041))
    said = remarks([result])[0]
    assert "rise by 2.5% at most; by 2.21 ± 0.20 % on validation text over 4 channels" in said
    assert "below 2.45% at 90% confidence, one-sided" in said
    assert "by 2.32 ± 0.41 % on the test text" in said


def test_items_too_long_for_the_context_are_counted(run: Path) -> None:
    scores = load_scores(run)
    scores["topk"]["lengths"] = {"xsum": (3, 0), "piqa": (1, 2)}
    save_scores(run, scores)
    assert [remark for remark in remarks(load_results(run)) if "too long" in remark] == [
        "topk: xsum: 3 items cut, too long for the model's context.",
        "topk: piqa: 1 item cut and 2 items left out, too long for the model's context.",
    ]
