"""The tables of every command on a terminal of 80 columns: no figure, no heading is cut."""

from __future__ import annotations

import json
import sys
from argparse import Namespace
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from profiles import profile_of

from siftmoe.tools.cli import main
from siftmoe.tools.commands import ledger as ledger_command
from siftmoe.tools.commands import profile as profile_command
from siftmoe.tools.commands import solve
from siftmoe.tools.commands.boards import flash, status
from siftmoe.tools.comparing import comparison
from siftmoe.tools.experiments import report as study_report
from siftmoe.tools.experiments.summary import Summary
from siftmoe.tools.flashing.rollout import Outcome
from siftmoe.tools.radios.live_table import Watched, watch
from siftmoe.tools.results.policies import load_results
from siftmoe.tools.terminal.console import stdout_console
from siftmoe.tools.watching.table import Screen, once

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

POLICIES = ("topk", "topk-1", "siftmoe:bits=auto:loss=0.025", "my_lab.policies:Greedy:budget=0.3")


@pytest.fixture
def cut(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[list[str]]:
    """80 columns; after the test every printed line is looked at."""
    monkeypatch.setenv("COLUMNS", "80")
    lines: list[str] = []
    yield lines
    lines += capsys.readouterr().out.splitlines()
    assert len(lines) > 2
    # The path of a report is never broken, so that it can be copied; how long it is is the user's.
    tables = [line for line in lines if not line.startswith("report: ")]
    assert [line for line in tables if "…" in line or len(line) > 80] == []


def job(*, wide: bool = False) -> Any:
    return Namespace(as_json=False, wide=wide)


@pytest.mark.usefixtures("cut")
def test_loopback_and_run(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    first = load_results(run)[0]
    metrics = {
        "accuracy": (0.62, 0.05),
        "perplexity": (18.34, 1.5),
        "next_token_accuracy": (0.41, 0.01),
        "rouge_l": (0.123, 0.012),
    }
    results = [
        replace(
            first,
            policy=policy,
            metrics=metrics | {"perplexity": (18.34 + n, 1.5)},
            mix=((0.0, {2: 3, 6 + n: 4}),),
            energy_j_per_token=first.energy_j_per_token / (1 + n),
            channel_origins=("simulated", "sounded") if n else ("simulated",),
        )
        for n, policy in enumerate(POLICIES)
    ]
    monkeypatch.setattr(comparison, "load_results", lambda _: results)
    config = {"operating_point": "2048 bit", "helpers": "4 agents", "note": "simulated"}
    comparison._show(job(), run, config)
    said = capsys.readouterr().out
    flat = " ".join(said.split())
    for text in ("accuracy", "perplexity", "change", "saved", "kept /", "skipped"):
        assert text in flat
    assert "+5.5 %" in flat  # 19.34 over 18.34
    assert "50 %" in flat
    assert "75/0/25 %" in flat
    comparison._show(job(wide=True), run, config)
    wide = capsys.readouterr().out
    assert "tokens/s" in wide
    assert "next token accuracy" in wide
    assert "of it radiated" in wide
    comparison._show(Namespace(as_json=True, wide=False), run, config)
    first = json.loads(capsys.readouterr().out)["results"][0]
    assert first["energy_saved"] == 0.0
    parts = {part["part"]: part["energy_j"] for part in first["parts_j_per_token"]}
    assert sum(parts.values()) == pytest.approx(first["energy_j_per_token"])
    sys.stdout.write(said)


@pytest.mark.usefixtures("cut")
def test_ledger(run: Path) -> None:
    assert main(["ledger", str(run)]) == 0
    assert callable(ledger_command.run)


@pytest.mark.usefixtures("cut")
def test_solve() -> None:
    answer = {
        "file": "/a/long/folder/of/instances/that/somebody/has/batch-of-many-tokens-0001.json",
        "family": "b2",
        "status": "infeasible",
        "objective": 1.23456789e-8,
        "lower_bound": 1.23456780e-8,
        "solve_s": 0.123,
    }
    solve._show([answer, {**answer, "objective": None, "lower_bound": None}], wide=False)


@pytest.mark.usefixtures("cut")
def test_flash() -> None:
    outcome = Outcome(
        board="bench-orin-nano-3",
        result="unchanged",
        release="0123456789abcdef",
        previous="fedcba9876543210",
        files=123,
        num_bytes=812_345_678,
        detail="12 experts on TensorrtExecutionProvider, compiled packing; radio ip:192.168.2.1: "
        "ADALM-Pluto, serial 1044739a470b000a090018007ecf7f5ea8; its clock is +123 s off",
        wall_s=1234.5,
    )
    flash._print([outcome, Outcome(board="b", result="skipped")], as_json=False, wide=False)


def row(name: str, **more: Any) -> dict[str, Any]:
    return {
        "agent": name,
        "state": "ready",
        "reason": "",
        "release": "0123456789abcdef",
        "version": "0.1.0",
        "provider": "CUDAExecutionProvider",
        "experts": 128,
        "stats": {},
        "queue": 12,
        "memory_bytes": 12_345e6,
        "memory_free_bytes": 123.4e9,
        "temperature_c": 97.0,
        "power_w": 23.45,
        "hot": [],
        "rows_per_s": 123_456.0,
        "board": {"current": "0123456789abcdef", "service": {"state": "activating"}},
        **more,
    }


ROWS = [
    row("bench-orin-nano-3", state="unreachable", reason="no answer within 3 s; is it on? " * 4),
    row("left", hot=["CPU 97 of 95 °C"], board={"error": "board 'left': cannot log in " * 5}),
    row("right", release="", provider="CPUExecutionProvider", board=None),
]


@pytest.mark.usefixtures("cut")
def test_status() -> None:
    stdout_console().print(once(ROWS))
    assert callable(status.run)


@pytest.mark.usefixtures("cut")
def test_status_watch() -> None:
    with Screen() as screen:
        screen.show(ROWS)


@pytest.mark.usefixtures("cut")
def test_radio_sound_watch() -> None:
    measured = {
        "tx": "ip:192.168.200.123:30431",
        "rx": "ip:192.168.200.124:30431",
        "detected": True,
        "reason": "",
        "path_gain_db": -123.45,
        "path_gain_std_db": 4.24,
        "snr_db": -12.3,
        "cfo_hz": -28608.0,
        "noise_dbm": -101.2,
    }
    assert watch(item for item in [[measured, {**measured, "reason": "x" * 200}]]) == 0
    assert Watched().rows() == []


@pytest.mark.usefixtures("cut")
def test_profile() -> None:
    profile_command._print(profile_of(0), title="some.bundle", wide=False)


@pytest.mark.usefixtures("cut")
def test_experiment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    header = ["policy", "knob", "number of helpers", "bits", "perplexity", "rise", "accuracy"]
    header += ["next token", "uplink / token", "saved", "latency uniform", "kept / repl. / skipped"]
    cells = ["0.123 (for +2.5%)", "32", "3.3", "18.34", "2.5 ± 0.3 %", "0.620", "0.410"]
    cells += ["43.0 nJ", "89.0 ± 1.2 %", "12.3 ms", "87/13/0"]
    summary = Summary("upcycled, a case: every point", header, [[p, *cells] for p in POLICIES])
    monkeypatch.setattr(study_report, "rows_of", lambda _: [])
    monkeypatch.setattr(study_report, "summary_of", lambda *_: [summary])
    monkeypatch.setattr(study_report, "_write", lambda *_: tmp_path / "report.html")
    finished = Namespace(
        name="quality",
        folder=tmp_path,
        outcomes=[],
        config={"channel": "Rayleigh"},
    )
    (tmp_path / "results.csv").touch()
    monkeypatch.setattr(study_report, "write_csv", lambda *_: None)
    study_report.report(finished, as_json=False)
