"""``siftmoe loopback`` as a person runs it: a process, its agents, its folder, and how it ends."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from contextlib import redirect_stderr, redirect_stdout
from html.parser import HTMLParser
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import pytest

from siftmoe.coordinator.errors import LedgerError
from siftmoe.coordinator.ledger.store import (
    FaultRow,
    Ledger,
    SelectionRow,
    StepRow,
    TransmissionRow,
)
from siftmoe.models.bundle.manifest import Manifest
from siftmoe.tools.cli import main
from siftmoe.tools.comparing.resumption import held
from siftmoe.tools.results.policies import answer_label

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Start = Callable[..., subprocess.Popen[str]]
    Run = tuple[Path, dict[str, Any]]

#: The first test also waits for the bundle to be prepared and profiled.
pytestmark = pytest.mark.timeout(300)

PATIENCE_S = 60.0
AGENTS = 3
#: At a given price: what the default finds on validation text would take longer than all the rest.
SIFTMOE = "siftmoe:price=1e-07"
SMALL = ["--agents", str(AGENTS), "--items", "2", "--tokens", "4", "--task", "choice"]
SMALL += ["--policy", f"topk,topk-1,{SIFTMOE}"]
#: More than any test waits for.
ENDLESS = ["--agents", str(AGENTS), "--items", "1000", "--tokens", "1", "--policy", "topk"]


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Bundles of the shipped checkpoints are prepared once, and not where the user's are."""
    cache = tmp_path_factory.mktemp("cache")
    return {**os.environ, "XDG_CACHE_HOME": str(cache), "OMP_NUM_THREADS": "1"}


@pytest.fixture
def start(environment: dict[str, str], tmp_path: Path) -> Iterator[Start]:
    """Start ``siftmoe loopback`` in an empty folder; what is left of it in the end is killed."""
    started: list[psutil.Process] = []

    def start(*arguments: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-m", "siftmoe.tools.cli", "loopback", *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
            cwd=tmp_path,
        )
        started.append(psutil.Process(process.pid))
        return process

    yield start
    for process in started:
        with contextlib.suppress(psutil.NoSuchProcess):
            for one in [*process.children(), process]:
                one.kill()


def finish(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=PATIENCE_S)
    return process.returncode, out, err


def wait_until(condition: Callable[[], Any]) -> Any:
    end_s = time.monotonic() + PATIENCE_S
    while not (found := condition()):
        assert time.monotonic() < end_s, "waited in vain"
        time.sleep(0.02)
    return found


def evaluating(process: subprocess.Popen[str], out: Path) -> list[psutil.Process]:
    """Wait until the evaluation has booked some steps; returns the agents."""

    def booked() -> bool:
        assert process.poll() is None, process.communicate()[1]
        with contextlib.suppress(LedgerError), Ledger.open(out / "ledger.sqlite") as ledger:
            run = ledger.labels().get("topk")
            return run is not None and ledger.summary(run).steps >= 3
        return False

    wait_until(booked)
    agents = psutil.Process(process.pid).children()
    assert len(agents) == AGENTS
    return agents


def assert_gone(processes: list[psutil.Process]) -> None:
    assert psutil.wait_procs(processes, timeout=PATIENCE_S)[1] == []


def assert_whole_steps(path: Path, *, num_layers: int = 4) -> None:
    """Whatever stands in a ledger belongs to a step that was finished, or to the one broken off."""
    with Ledger.open(path) as ledger:
        assert ledger.labels()
        for run in ledger.labels().values():
            steps = {row.step: row for row in ledger.rows(StepRow, run=run)}
            assert sorted(steps) == list(range(len(steps)))
            assert not any(steps[number].aborted for number in range(len(steps) - 1))
            steps = {number: row for number, row in steps.items() if not row.aborted}
            served = {
                (row.step, row.layer): row.kept + row.replaced
                for row in ledger.rows(SelectionRow, run=run)
                if row.step in steps
            }
            assert list(served) == [(step, m) for step in steps for m in range(num_layers)]
            for direction in ("up", "down"):
                assert {key for key, count in served.items() if count} == {
                    (row.step, row.layer)
                    for row in ledger.rows(TransmissionRow, run=run)
                    if row.direction == direction and row.step in steps
                }


class _Resources(HTMLParser):
    """Everything that a page would load from elsewhere."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.places: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.places += [v or "" for name, v in attrs if name in ("src", "href", "xlink:href")]


def run_here(*arguments: str) -> tuple[int, str, str]:
    """Run the command in this process, which has imported everything already."""
    with redirect_stdout(io.StringIO()) as out, redirect_stderr(io.StringIO()) as err:
        try:
            status = main(["loopback", *arguments])
        except SystemExit as exit_:  # of argparse
            status = int(str(exit_.code))
    return status, out.getvalue(), err.getvalue()


@pytest.fixture(scope="module")
def finished(environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> list[Run]:
    """Two runs with the same seed and one with another: folder and printed results of each."""
    root = tmp_path_factory.mktemp("runs")
    arguments = [
        [*SMALL, "--json", "--seed", seed, "--out", str(root / name)]
        for name, seed in (("first", "3"), ("again", "3"), ("other", "4"))
    ]
    command = [sys.executable, "-m", "siftmoe.tools.cli", "loopback", *arguments[0]]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    printed = [done.stdout]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", environment["XDG_CACHE_HOME"])
        for more in arguments[1:]:
            status, out, err = run_here(*more)
            assert status == 0, err
            printed.append(out)
    names = ("first", "again", "other")
    return [(root / name, json.loads(text)) for name, text in zip(names, printed, strict=True)]


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
    assert "0.44 bit/s/Hz (the paper's operating point" in printed["config"]["operating_point"]
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


AIR = ["--agents", str(AGENTS), "--items", "2", "--tokens", "6", "--task", "choice", "--json"]
AIR += ["--policy", f"topk,{SIFTMOE}"]


def booked(folder: Path, policy: str) -> tuple[list[SelectionRow], list[TransmissionRow]]:
    with Ledger.open(folder / "ledger.sqlite") as ledger:
        run = ledger.labels()[policy]
        return list(ledger.rows(SelectionRow, run=run)), list(ledger.rows(TransmissionRow, run=run))


def test_a_shared_deadline_is_booked_as_it_was_divided(
    finished: list[Run], environment: dict[str, str], tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", environment["XDG_CACHE_HOME"])
    out = tmp_path / "shared"
    air = ["--deadline-shared", "--downlink-price", "2"]
    status, text, err = run_here(*AIR, *air, "--seed", "3", "--out", str(out))
    assert status == 0, err
    assert "for uplink, compute and downlink" in json.loads(text)["config"]["operating_point"]
    for policy in ("topk", SIFTMOE, answer_label("topk")):
        selections, bursts = booked(out, policy)
        price = {"up": 1.0, "down": 2.0}
        spent: dict[tuple[int, int], float] = {}
        airtime: dict[tuple[int, int, str], float] = {}
        for row in bursts:
            key = (row.step, row.layer)
            spent[key] = spent.get(key, 0.0) + price[row.direction] * row.energy_j
            burst = (*key, row.agent)
            airtime[burst] = airtime.get(burst, 0.0) + row.airtime_s
        for row in selections:
            energy = spent.get((row.step, row.layer), 0.0)
            assert row.predicted_energy_j == pytest.approx(energy, rel=1e-9)
        with Ledger.open(out / "ledger.sqlite") as ledger:
            steps = {row.step: row for row in ledger.rows(StepRow, run=ledger.labels()[policy])}
        deadline_s = json.loads(text)["config"]["radio"]["deadline_s"]
        for (step, _, _), seconds in airtime.items():
            assert 0.9 * steps[step].tokens * deadline_s < seconds < steps[step].tokens * deadline_s
    # both directions of the first run had a window each
    assert sum(row.energy_j for row in booked(out, "topk")[1]) > sum(
        row.energy_j for row in booked(finished[0][0], "topk")[1]
    )


def test_widths_are_chosen_sent_and_reported(
    finished: list[Run], environment: dict[str, str], tmp_path: Path, monkeypatch: Any
) -> None:
    del finished  # it has prepared the bundle
    monkeypatch.setenv("XDG_CACHE_HOME", environment["XDG_CACHE_HOME"])
    out = tmp_path / "bits"
    policies = ["topk", "topk:bits=4", SIFTMOE, "channel-width:price=1e-07"]
    given = ["--bits", "auto", "--policy", ",".join(policies), "--seed", "3", "--out", str(out)]
    status, text, err = run_here(*AIR, *given)
    assert status == 0, err
    spent = {}
    for policy in policies:
        selections, bursts = booked(out, policy)
        up = [row for row in bursts if row.direction == "up"]
        widths = {int(part.split(":")[0]) for row in up for part in row.widths.split()}
        if policy.startswith("topk"):
            assert widths == {16 if policy == "topk" else 4}
        else:
            assert len(widths) > 1
            assert max(widths) < 16
        answers = {row.widths.split(":")[0] for row in bursts if row.direction == "down"}
        assert answers == {"16" if policy == "topk" else "8"}
        planned = sum(row.predicted_energy_j for row in selections)
        spent[policy] = sum(row.energy_j for row in up)
        assert planned == pytest.approx(spent[policy], rel=1e-9)
    assert spent[SIFTMOE] < 0.35 * spent["topk"]
    results = {result["policy"]: result for result in json.loads(text)["results"]}
    for policy in policies:
        assert results[policy]["uplink_j_per_token"] > 0.0
    page = (out / "report.html").read_text()
    assert "In how many bits an entry vectors went to helpers" in page
    assert (out / "figures" / "widths.svg").exists()


def test_what_misses_a_window_is_booked_and_missing(
    finished: list[Run], environment: dict[str, str], tmp_path: Path, monkeypatch: Any
) -> None:
    """So little is lost for an undelivered token that deep fades are not sent through."""
    monkeypatch.setenv("XDG_CACHE_HOME", environment["XDG_CACHE_HOME"])
    out = tmp_path / "fast"
    air = ["--fading-slots", "2", "--outage-price", "1.5", "--audit"]
    status, text, err = run_here(*AIR, *air, "--seed", "3", "--out", str(out))
    assert status == 0, err
    assert "in 2 blocks" in json.loads(text)["config"]["helpers"]
    selections, bursts = booked(out, "topk")
    lost = {(row.step, row.layer): row.lost for row in selections}
    assert sum(lost.values()) > 0
    assert all(row.skipped == row.lost for row in selections)  # Top-K skips nothing by itself
    for row in selections:
        assert (row.measured_deviation > 1e-6) == (row.lost > 0)
    missed = dict.fromkeys(lost, 0)
    sent = dict.fromkeys(lost, 0)
    for row in bursts:
        missed[row.step, row.layer] += row.missed
        sent[row.step, row.layer] += (
            row.tokens if row.direction == "up" else row.missed - row.tokens
        )
    assert {key for key, count in missed.items() if count} == {k for k, n in lost.items() if n}
    assert sent == missed  # what was not missed came back


def test_an_interrupt_ends_it_in_order(start: Start, tmp_path: Path) -> None:
    process = start(*ENDLESS, "--out", "run")
    agents = evaluating(process, tmp_path / "run")
    process.send_signal(signal.SIGINT)
    status, out, err = finish(process)
    assert (status, out) == (130, "")
    assert "interrupted; what was booked is in run/ledger.sqlite" in err
    assert "Traceback" not in err
    assert_gone(agents)
    assert_whole_steps(tmp_path / "run" / "ledger.sqlite")
    assert not (tmp_path / "run" / "ledger.sqlite-wal").exists()


def test_a_kill_leaves_no_agent(start: Start, tmp_path: Path) -> None:
    process = start(*ENDLESS, "--out", "run")
    agents = evaluating(process, tmp_path / "run")
    process.kill()
    assert finish(process)[0] == -signal.SIGKILL
    assert_gone(agents)
    assert_whole_steps(tmp_path / "run" / "ledger.sqlite")


def test_an_agent_that_dies_costs_a_remark_and_not_the_run(start: Start, tmp_path: Path) -> None:
    task = ["--task", "choice", "--items", "12", "--batch", "1", "--tokens", "1"]
    policies = ["--policy", f"topk,{SIFTMOE}"]
    out = tmp_path / "run"
    process = start("--agents", str(AGENTS), *task, *policies, "--out", "run")
    agents = evaluating(process, out)
    victim = next(a for a in agents if "agent-1" in " ".join(a.cmdline()))
    victim.kill()
    status, text, err = finish(process)
    assert status == 0, err
    assert "Traceback" not in err
    said = " ".join(text.split())
    assert re.search(r"topk: agent-1 (failed in 1 layers .*)?was left out of \d+ selections", said)
    assert re.search(
        rf"{re.escape(SIFTMOE)}: agent-1 was left out of \d+ selections \(dead: ", said
    )
    assert re.search(r"topk: \d+ selections could not keep their budget", said)
    assert list(json.loads((out / "scores.json").read_text())) == ["topk", SIFTMOE]
    assert_gone(agents)
    assert_whole_steps(out / "ledger.sqlite")
    with Ledger.open(out / "ledger.sqlite") as ledger:
        labels = ledger.labels()
        rows = list(ledger.rows(SelectionRow, run=labels["topk"]))
        before = [row for row in rows if not row.excluded]
        after = rows[len(before) :]
        assert before == rows[: len(before)]
        # No expert of it has another host: Top-K skips them, and says so in every layer.
        assert not any(row.skipped for row in before)
        assert any(row.skipped for row in after)
        assert all(row.excluded.startswith("agent-1: dead: ") for row in after)
        # It may have died with work in hand, or not.
        faults = list(ledger.rows(FaultRow, run=labels["topk"]))
        assert [row.faulted for row in rows if row.faulted] == [row.slots for row in faults]
        last = (after[0].step, after[0].layer)
        for row in ledger.rows(TransmissionRow, run=labels["topk"]):
            assert row.agent != "agent-1" or (row.step, row.layer) <= last
            assert row.missed in (0, row.tokens)
            assert not row.missed or (row.agent, (row.step, row.layer)) == ("agent-1", last)
        assert not list(ledger.rows(FaultRow, run=labels[SIFTMOE]))


def test_a_run_that_was_killed_is_gone_on_with(start: Start, tmp_path: Path) -> None:
    out = tmp_path / "run"
    job = ["--agents", str(AGENTS), "--items", "6", "--batch", "1", "--tokens", "1", "--json"]
    job += ["--task", "choice", "--policy", f"topk-1,topk,{SIFTMOE}"]
    process = start(*job, "--out", "run")
    agents = evaluating(process, out)  # topk-1 is done
    with pytest.raises(ValueError, match="is going on in another process"), held(out):
        pass
    process.kill()
    finish(process)
    assert_gone(agents)
    before = json.loads((out / "scores.json").read_text())
    assert list(before) == ["topk-1"]
    with Ledger.open(out / "ledger.sqlite") as ledger:
        kept = list(ledger.rows(StepRow, run=ledger.labels()["topk-1"]))
        broken_off = len(list(ledger.rows(StepRow, run=ledger.labels()["topk"])))

    status, text, err = finish(start("--resume", "run", "--json"))
    assert status == 0, err
    assert "1 of 3 policies are done" in err
    printed = json.loads(text)
    scores = json.loads((out / "scores.json").read_text())
    assert list(scores) == ["topk-1", "topk", SIFTMOE]
    assert scores["topk-1"] == before["topk-1"]
    assert [result["policy"] for result in printed["results"]] == list(scores)
    assert [result["attempts"] for result in printed["results"]] == [0, 1, 0]
    assert printed["results"][1]["attempts_j"] > 0.0
    assert_whole_steps(out / "ledger.sqlite")
    with Ledger.open(out / "ledger.sqlite") as ledger:
        labels = ledger.labels()
        assert list(ledger.rows(StepRow, run=labels["topk-1"])) == kept
        assert len(list(ledger.rows(StepRow, run=labels["topk (attempt 1)"]))) == broken_off
        assert len(list(ledger.rows(StepRow, run=labels["topk"]))) == len(kept)
    # Nothing is left to do: what is there is shown again.
    status, again, err = finish(start("--resume", "run", "--json"))
    assert status == 0, err
    assert json.loads(again)["results"] == printed["results"]


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
