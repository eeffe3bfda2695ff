"""``siftmoe run`` on real agents and emulated Plutos: sounding, following, losing, falling back."""

from __future__ import annotations

import io
import json
import shutil
import signal
import subprocess
import sys
import time
from contextlib import redirect_stderr
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from families import build_model
from sounded_testbed import AGENTS, COHERENCE_S, Testbed, command, experts_of, rows

from siftmoe.agent.config import AgentConfig
from siftmoe.agent.process.launch import spawn, stop_all
from siftmoe.coordinator.connect import connect
from siftmoe.coordinator.ledger.store import (
    Ledger,
    SelectionRow,
    SoundingRow,
    TransmissionRow,
)
from siftmoe.models.bundle.reader import Bundle
from siftmoe.models.tiny.files import checkpoint_dir, data_path
from siftmoe.radio.channel.link import ChannelOrigin, Source
from siftmoe.radio.emulator.launch import EmulatedPlutos
from siftmoe.tools.cli import main

if TYPE_CHECKING:
    from collections.abc import Iterator


#: What a turn of sounding and a loaded machine may add to a coherence time.
SLACK_S = 6.0
PATIENCE_S = 60.0
SMALL = ["--task", "perplexity", "--items", "2", "--tokens", "4"]


@pytest.fixture(scope="module")
def testbed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Testbed]:
    folder = tmp_path_factory.mktemp("testbed")
    build_model("mixtral", vocab_size=2048).save_pretrained(folder / "model")
    for path in checkpoint_dir("upcycled").glob("tokenizer*"):
        shutil.copy(path, folder / "model")
    calibration = ["--calibration", str(data_path("calibration")), "--calibration-tokens", "1024"]
    bundle = folder / "bundle"
    assert main(["prepare", str(folder / "model"), "--out", str(bundle), *calibration]) == 0
    with EmulatedPlutos(AGENTS + 1) as plutos:
        starting = [
            spawn(
                AgentConfig(
                    bundle=str(bundle),
                    name=f"a{n}",
                    experts=experts_of(n),
                    threads=1,
                    radio=plutos.uris[n + 1],
                )
            )
            for n in range(AGENTS)
        ]
        try:
            agents = [agent.wait() for agent in starting]
            yield Testbed(plutos=plutos, agents=agents, bundle=bundle, folder=folder)
        finally:
            stop_all([agent.process for agent in starting])
        assert plutos.transmitting() == []


def test_policies_run_on_sounded_links_and_all_is_booked(testbed: Testbed, tmp_path: Path) -> None:
    testbed.set_gains(-70.0, -76.0, -80.0, -74.0)
    out = tmp_path / "out"
    status, text, err = command(str(testbed.file()), *SMALL, "--json", "--out", str(out))
    assert status == 0, err
    assert "Links to a0, a1, a2, a3 sounded by radio" in " ".join(err.split())
    printed = json.loads(text)
    assert [result["policy"] for result in printed["results"]] == ["topk", "siftmoe:tolerance=0.3"]
    for result in printed["results"]:
        assert result["channel_origins"] == ["sounded"]
        assert result["energy_sources"] == ["modelled"]  # hidden states went over the network
        assert result["sounding_j"] >= 0.0
    assert printed["results"][1]["uplink_j_per_token"] < printed["results"][0]["uplink_j_per_token"]

    true = testbed.true_gains()
    soundings = rows(out, SoundingRow)
    assert {row.agent for row in soundings} == {"a0", "a1", "a2", "a3"}
    for row in soundings:
        assert row.detected, row.reason
        # No unit is calibrated: powers are derived, to 3 dB at either end.
        assert (row.power_source, row.airtime_source) == (Source.DERIVED, Source.MEASURED)
        assert row.energy_source is Source.DERIVED
        assert row.energy_j == pytest.approx(row.tx_power_w * row.airtime_s)
        assert abs(10 * np.log10(row.channel_gain / true[int(row.agent[1])])) < 0.2
        assert row.gain_std > 0.5 * row.channel_gain
        response = np.frombuffer(row.response, dtype=np.complex64)
        assert np.mean(np.abs(response) ** 2) == pytest.approx(row.channel_gain, rel=1e-4)
    for row in rows(out, TransmissionRow):
        assert row.channel_origin is ChannelOrigin.SOUNDED
        assert row.power_source is row.airtime_source is Source.MODELLED
        assert row.energy_std_j > 0.5 * row.energy_j
        assert -0.01 <= row.channel_age_s < 10 * COHERENCE_S
    used = {row.agent for row in rows(out, TransmissionRow)}
    assert used == {"a0", "a3"}  # the better one of either pair

    page = Path(printed["report"]).read_text()
    assert all(text in page for text in ("Energy by source", "<h2>Links</h2>", "a3 down"))
    assert {path.name for path in (out / "figures").iterdir()} > {"gain.svg", "response.svg"}
    assert testbed.plutos.transmitting() == []


def feed(model: Any) -> None:
    with torch.inference_mode():
        model(torch.arange(3, 7)[None, :])


def last_used(path: Path) -> set[str]:
    with Ledger.open(path) as ledger:
        found = list(ledger.rows(TransmissionRow))
    return {row.agent for row in found if row.step == found[-1].step}


def test_the_choice_follows_a_link_that_gets_worse_within_a_coherence_time(
    testbed: Testbed, tmp_path: Path
) -> None:
    testbed.set_gains(-70.0, -76.0, -80.0, -74.0)
    model = Bundle.open(testbed.bundle).load_backbone()
    ledger = tmp_path / "ledger.sqlite"
    with connect(testbed.file("follow"), ledger=ledger) as coordinator:
        coordinator.attach(model)
        feed(model)
        assert last_used(ledger) == {"a0", "a3"}
        testbed.set_gains(-90.0)
        changed_s = time.monotonic()
        while "a0" in last_used(ledger):
            assert time.monotonic() - changed_s < COHERENCE_S + SLACK_S
            feed(model)
        assert last_used(ledger) == {"a1", "a3"}
    # By the run's own clock: the first sounding after the change came within a coherence time.
    times = [row.time_s for row in rows(tmp_path, SoundingRow) if row.agent == "a0"]
    assert np.diff(times).max() < COHERENCE_S + SLACK_S


def test_a_radio_that_is_unplugged_costs_its_link_until_it_is_back(
    testbed: Testbed, tmp_path: Path
) -> None:
    testbed.set_gains(-70.0, -76.0, -80.0, -74.0)
    model = Bundle.open(testbed.bundle).load_backbone()
    ledger = tmp_path / "ledger.sqlite"

    def feed_until(used: set[str]) -> None:
        end_s = time.monotonic() + PATIENCE_S
        while last_used(ledger) != used:
            assert time.monotonic() < end_s, last_used(ledger)
            feed(model)

    with connect(testbed.file("lost"), ledger=ledger) as coordinator:
        coordinator.attach(model)
        feed_until({"a0", "a3"})
        testbed.plutos.unplug("pluto-1")
        try:
            feed_until({"a1", "a3"})
        finally:
            testbed.plutos.plug("pluto-1")
        feed_until({"a0", "a3"})
    excluded = [row.excluded for row in rows(tmp_path, SelectionRow)]
    assert excluded[0] == excluded[-1] == ""
    assert any(text.startswith("link to a0: lost: agent 'a0'") for text in excluded)
    missed = [row for row in rows(tmp_path, SoundingRow) if not row.detected]
    assert missed
    assert {row.agent for row in missed} == {"a0"}
    assert all(row.reason and row.channel_gain is None for row in missed)


def test_simulation_can_be_asked_for_and_says_so(testbed: Testbed, tmp_path: Path) -> None:
    out = tmp_path / "out"
    file = testbed.file(band_hz=[2.46e9, 2.48e9])
    arguments = [str(file), *SMALL, "--policy", "topk", "--radio", "simulated"]
    status, text, err = command(*arguments, "--json", "--out", str(out))
    assert status == 0, err
    assert "warning: the pilots occupy 2449.22 to 2450.78 MHz, which leaves band_hz" in err
    assert "over 2 MHz at 2.45 GHz in" in json.loads(text)["config"]["operating_point"]
    assert "SIMULATED links, no radio was used (asked for)" in json.loads(text)["config"]["note"]
    assert rows(out, SoundingRow) == []
    assert {row.channel_origin for row in rows(out, TransmissionRow)} == {ChannelOrigin.SIMULATED}


def test_without_the_users_radio_it_falls_back_or_refuses(testbed: Testbed, tmp_path: Path) -> None:
    gone = testbed.file("gone", uri="ip:127.0.9.9:1")
    out = tmp_path / "out"
    status, text, err = command(str(gone), *SMALL, "--policy", "topk", "--out", str(out))
    assert status == 0, err
    told = " ".join(text.split())
    assert "SIMULATED links, no radio was used (the user's radio" in told
    assert "ip:127.0.9.9:1" in told
    assert "SIMULATED links" in (out / "report.html").read_text()
    assert {row.channel_origin for row in rows(out, TransmissionRow)} == {ChannelOrigin.SIMULATED}

    strict = testbed.file("strict", uri="ip:127.0.9.9:1", fallback=False)
    status, text, err = command(str(strict), *SMALL, "--out", str(tmp_path / "strict"))
    assert (status, text) == (1, "")
    assert "error: no radio for a0" in err
    assert "fallback = true in [sounding]" in err


def test_one_agent_without_a_radio_is_simulated_and_named(testbed: Testbed, tmp_path: Path) -> None:
    config = AgentConfig(bundle=str(testbed.bundle), name="a3", experts="*:2-3", threads=1)
    starting = spawn(config)
    try:
        mixed = Testbed(
            plutos=testbed.plutos,
            agents=[*testbed.agents[:3], starting.wait()],
            bundle=testbed.bundle,
            folder=tmp_path,
        )
        out = tmp_path / "out"
        arguments = [str(mixed.file()), *SMALL, "--policy", "topk", "--json", "--out", str(out)]
        status, text, err = command(*arguments)
        assert status == 0, err
    finally:
        stop_all([starting.process])
    note = json.loads(text)["config"]["note"]
    assert "Links to a0, a1, a2 sounded" in note
    assert "Link to a3 SIMULATED: its agent runs without --radio" in note
    origins = {(row.agent, row.channel_origin) for row in rows(out, TransmissionRow)}
    assert origins <= {(f"a{n}", ChannelOrigin.SOUNDED) for n in range(3)} | {
        ("a3", ChannelOrigin.SIMULATED)
    }
    assert {row.agent for row in rows(out, SoundingRow)} == {"a0", "a1", "a2"}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_however_it_ends_no_radio_goes_on_transmitting(
    testbed: Testbed, tmp_path: Path, number: signal.Signals
) -> None:
    out = tmp_path / "out"
    # As often as it can: the radios are busy most of the time.
    file = testbed.file("busy")
    file.write_text(file.read_text().replace("coherence_time_s = 1.0", "coherence_time_s = 0.01"))
    command = [sys.executable, "-m", "siftmoe.tools.cli", "run", str(file), "--policy", "topk"]
    process = subprocess.Popen(
        [*command, "--items", "500", "--task", "perplexity", "--out", str(out)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    try:
        end_s = time.monotonic() + PATIENCE_S
        while not testbed.plutos.transmitting():
            assert process.poll() is None, process.communicate()[1]
            assert time.monotonic() < end_s
        process.send_signal(number)
        status = process.wait(PATIENCE_S)
    finally:
        process.kill()
        process.communicate()
    assert status == (130 if number is signal.SIGINT else -signal.SIGKILL)
    # An agent ends by itself what nobody ended for it; a driver does when its program is gone.
    end_s = time.monotonic() + PATIENCE_S
    while testbed.plutos.transmitting():
        assert time.monotonic() < end_s, testbed.plutos.transmitting()
        time.sleep(0.05)
    with Ledger.open(out / "ledger.sqlite") as ledger:
        assert "topk: answer" in ledger.labels() or "start" in ledger.labels()


@pytest.mark.parametrize(
    ("arguments", "status", "text"),
    [
        (["missing.toml"], 1, "testbed 'missing.toml' cannot be read"),
        (["--radio", "real", "x.toml"], 2, "invalid choice: 'real'"),
        ([], 2, "TESTBED"),
    ],
)
def test_a_mistake_is_told(arguments: list[str], status: int, text: str) -> None:
    err = io.StringIO()
    with redirect_stderr(err):
        try:
            got = main(["run", *arguments])
        except SystemExit as end:
            got = end.code
    assert got == status
    assert text in err.getvalue()
    assert "Traceback" not in err.getvalue()
