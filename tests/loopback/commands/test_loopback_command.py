"""``siftmoe loopback``: its folder, report and ledger, and messages for wrong arguments."""

from __future__ import annotations

import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import pytest
from loopback_runs import SIFTMOE, SMALL, assert_whole_steps, run_here

from siftmoe.coordinator.ledger.store import (
    Ledger,
    StepRow,
    TransmissionRow,
)
from siftmoe.models.bundle.manifest import Manifest
from siftmoe.tools.results.policies import answer_label

if TYPE_CHECKING:
    from collections.abc import Callable

    from loopback_runs import Run

#: The first test also waits for the bundle to be prepared and profiled.
pytestmark = pytest.mark.timeout(300)


class _Resources(HTMLParser):
    """Everything that a page would load from elsewhere."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.places: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.places += [v or "" for name, v in attrs if name in ("src", "href", "xlink:href")]


def test_the_folder_of_a_run(finished: list[Run]) -> None:
    folder, printed = finished[0]
    assert {path.name for path in folder.iterdir()} == {
        "config.json",
        "ledger.sqlite",
        "scores.json",
        "report.html",
        "figures",
    }
    assert json.loads((folder / "config.json").read_text()) == printed["config"]
    config = printed["config"]
    assert "0.44 bit/s/Hz (our reading of the paper's Mixtral" in config["operating_point"]
    assert "gain floor 0.05" in config["channel"]
    assert "gain floor 0.05" in config["helpers"]
    assert config["windows"]["count"] >= config["windows"]["longer"]
    scores = json.loads((folder / "scores.json").read_text())
    assert list(scores) == [result["policy"] for result in printed["results"]]
    for result in printed["results"]:
        assert result["metrics"] == scores[result["policy"]]["metrics"]
        assert 0.0 <= result["metrics"]["accuracy"][0] <= 1.0
        assert result["answer"] == scores[result["policy"]]["answer"]
    assert {path.suffix for path in (folder / "figures").iterdir()} == {".svg"}
    assert_whole_steps(folder / "ledger.sqlite")


def test_the_report_needs_nothing_but_itself(
    finished: list[Run],
) -> None:
    folder, printed = finished[0]
    page = (folder / "report.html").read_text(encoding="utf-8")
    resources = _Resources()
    resources.feed(page)
    assert "script" not in resources.tags
    assert all(place.startswith("#") for place in resources.places)
    assert all(place.startswith("#") for place in re.findall(r"url\(([^)]*)\)", page))
    assert "://" not in re.sub(r'xmlns(:\w+)?="[^"]*"', "", page)
    assert page.count("<svg") == len(list((folder / "figures").iterdir()))
    for result in printed["results"]:
        assert f"<td>{result['policy']}</td>" in page
    assert "modelled" in page


def test_the_energies_are_the_ledgers_sums(finished: list[Run]) -> None:
    folder, printed = finished[0]
    with Ledger.open(folder / "ledger.sqlite") as ledger:
        labels = ledger.labels()
        assert {"topk", "topk-1", SIFTMOE, answer_label("topk")} <= set(labels)
        for result in printed["results"]:
            run = labels[result["policy"]]
            tokens = sum(row.tokens for row in ledger.rows(StepRow, run=run))
            assert result["num_tokens"] == tokens > 0
            for direction, name in (("up", "uplink"), ("down", "downlink")):
                energy_j = sum(
                    row.energy_j
                    for row in ledger.rows(TransmissionRow, run=run)
                    if row.direction == direction
                )
                wanted = pytest.approx(energy_j / tokens, rel=1e-9)
                assert result[f"{name}_j_per_token"] == wanted
    topk, top_one, siftmoe = printed["results"]
    assert top_one["uplink_j_per_token"] < topk["uplink_j_per_token"]
    assert siftmoe["uplink_j_per_token"] < topk["uplink_j_per_token"]
    assert (topk["kept"], top_one["kept"], top_one["skipped"]) == (1.0, 0.5, 0.5)
    assert siftmoe["replaced"] > 0.0


def test_chat_without_a_template_is_refused_before_anything_starts(
    finished: list[Run], environment: dict[str, str], tmp_path: Path, monkeypatch: Any
) -> None:
    del finished  # it has prepared the bundle
    monkeypatch.setenv("XDG_CACHE_HOME", environment["XDG_CACHE_HOME"])
    status, _, err = run_here(*SMALL, "--chat", "--out", str(tmp_path / "run"))
    assert status != 0
    assert "--chat needs a chat template" in " ".join(err.split())
    assert not (tmp_path / "run").exists()


def test_a_prompt_with_brackets_and_a_terminal_of_80_columns(
    finished: list[Run], environment: dict[str, str], tmp_path: Path, monkeypatch: Any
) -> None:
    del finished  # it has prepared the bundle
    monkeypatch.setenv("XDG_CACHE_HOME", environment["XDG_CACHE_HOME"])
    monkeypatch.setenv("COLUMNS", "80")
    prompt = "[INST] [bold]hi[/bold] [/INST]"
    status, out, err = run_here(*SMALL, "--prompt", prompt, "--out", str(tmp_path / "run"))
    assert status == 0, err
    assert err.count(f"  {prompt}") == 3  # once for each policy
    printed = [line for line in out.splitlines() if not line.startswith("report: ")]
    assert not [line for line in printed if "…" in line or len(line) > 80]
    flat = " ".join(out.split())
    for text in (
        "accuracy",
        "saved",
        "50/0/50 %",
        "bits: 16; channel: simulated; source: modelled",
    ):
        assert text in flat


def test_a_seed_gives_the_same_run(finished: list[Run]) -> None:
    def energies(folder: Path) -> list[tuple[Any, ...]]:
        with Ledger.open(folder / "ledger.sqlite") as ledger:
            return [
                (label, row.time_s, row.step, row.layer, row.agent, row.direction, row.energy_j)
                for label, run in ledger.labels().items()
                for row in ledger.rows(TransmissionRow, run=run)
            ]

    (first, _), (again, _), (other, _) = finished
    assert energies(first) == energies(again)
    assert energies(first) != energies(other)
    assert (first / "scores.json").read_bytes() == (again / "scores.json").read_bytes()


@pytest.fixture
def prepared(
    environment: dict[str, str],
    finished: list[Run],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Path:
    """Work in an empty folder; the bundle of the usual model is there already."""
    assert finished
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", environment["XDG_CACHE_HOME"])
    (bundle,) = (Path(environment["XDG_CACHE_HOME"]) / "siftmoe" / "bundles").iterdir()
    return bundle


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["--policy", "topq"], 1, "no policy is named 'topq'; known are "),
        (["--policy", "topk,topk"], 1, "--policy wants different names"),
        (["--task", "chess"], 1, "chess"),
        (["--policy", "siftmoe:los=0.1"], 1, "no option los; it has loss, tolerance, average, "),
        (["--links", "nowhere"], 1, "no source of links is named 'nowhere'"),
        (["--task", "piqa:nowhere.jsonl"], 1, "nowhere.jsonl"),
        (["--model", "nowhere"], 1, "no model 'nowhere': name upcycled, scratch, or the folder"),
        (["--model", "mixtral"], 1, "is a checkpoint, not a bundle; run: siftmoe prepare"),
        (["--agents", "9"], 1, "9 agents, but a layer has 8 experts"),
        (["--out", "full"], 1, "--out 'full' exists and is not empty; name another folder"),
        (["--resume", "full"], 1, "ledger 'full/ledger.sqlite' does not exist"),
        (["--resume", "full", "--items", "3"], 1, "--resume goes on with what the run was asked"),
        (["--agents", "0"], 2, "argument --agents: must be at least 1, got 0"),
        (["--agents", "two"], 2, "argument --agents: "),
        (["--bandwidth", "2MHz"], 2, "argument --bandwidth: "),
        (["--deadline", "nan"], 2, "argument --deadline: must be positive, got nan"),
        (["--fading", "weibull"], 2, "argument --fading: invalid choice: 'weibull'"),
    ],
)
@pytest.mark.usefixtures("prepared")
def test_a_mistake_is_told_in_one_line(
    tmp_path: Path,
    family_checkpoint: Callable[[str], Path],
    arguments: list[str],
    status: int,
    message: str,
) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").touch()
    (tmp_path / "mixtral").symlink_to(family_checkpoint("mixtral"))
    got, out, err = run_here(*arguments)
    assert (got, out) == (status, "")
    (line,) = [line for line in err.splitlines() if "error: " in line]
    assert message in line
    assert "Traceback" not in err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["full", "mixtral"]
    assert [path.name for path in (tmp_path / "full").iterdir()] == ["thesis.txt"]


def test_a_damaged_expert_is_named(prepared: Path, tmp_path: Path) -> None:
    bundle = tmp_path / "x.bundle"
    shutil.copytree(prepared, bundle)
    path = bundle / Manifest.load(bundle).expert_file(1, 2).path
    path.write_bytes(path.read_bytes()[:-1] + b"\0")
    status, _, err = run_here("--model", "x.bundle", *SMALL)
    assert status == 1
    (line,) = [line for line in err.splitlines() if line.startswith("error: ")]
    assert "expert 2 of layer 1 has sha256" in line
    assert psutil.Process().children() == []
