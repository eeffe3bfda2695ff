"""``siftmoe run --metrics-port`` on a real agent, read over HTTP while it runs."""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from typing import TYPE_CHECKING

import pytest
from families import build_model
from patience import scaled_s
from prometheus_client.parser import text_string_to_metric_families

from siftmoe.agent.config import AgentConfig
from siftmoe.agent.process.launch import launch
from siftmoe.coordinator.ledger.metrics import FAMILIES
from siftmoe.coordinator.ledger.store import Ledger
from siftmoe.models.tiny.files import checkpoint_dir
from siftmoe.tools.cli import main
from siftmoe.tools.results.policies import LEDGER_FILE

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PATIENCE_S = 120.0
PROGRAM = "import sys; from siftmoe.tools.cli import main; sys.exit(main())"
P = "siftmoe_coordinator_"


@pytest.fixture(scope="module")
def testbed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    tmp_path = tmp_path_factory.mktemp("testbed")
    build_model("mixtral", vocab_size=2048).save_pretrained(tmp_path / "model")
    for path in checkpoint_dir("upcycled").glob("tokenizer*"):
        shutil.copy(path, tmp_path / "model")
    bundle = tmp_path / "bundle"
    assert (
        main(["prepare", str(tmp_path / "model"), "--out", str(bundle), "--calibration", "none"])
        == 0
    )
    agent = launch(AgentConfig(bundle=str(bundle), name="one", threads=1, idle_s=0.0))
    path = tmp_path / "testbed.toml"
    path.write_text(
        f'[model]\nbundle = "bundle"\n[radio]\ndeadline_s = 0.01\n'
        f'[[agent]]\nname = "one"\naddress = "{agent.endpoint}"\n'
    )
    yield path
    agent.stop()


def scrape(url: str) -> dict[str, dict[tuple[str, ...], float]]:
    with urllib.request.urlopen(url, timeout=PATIENCE_S) as reply:
        text = reply.read().decode()
    return {
        sample.name: {
            tuple(other.labels.values()): other.value
            for other in family.samples
            if other.name == sample.name
        }
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_a_run_can_be_followed(testbed: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    command = [sys.executable, "-c", PROGRAM, "run", str(testbed), "--policy", "topk"]
    command += ["--metrics-port", "0", "--out", str(out), "--task", "perplexity", "--items", "10"]
    command += ["--tokens", "20", "--batch", "1"]
    seen: list[dict[str, dict[tuple[str, ...], float]]] = []
    with subprocess.Popen(
        command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
    ) as process:
        watchdog = threading.Timer(PATIENCE_S, process.kill)
        watchdog.start()
        assert process.stderr is not None
        said = []
        for line in process.stderr:
            said.append(line)
            if line.startswith("metrics at "):
                break
        else:
            pytest.fail("".join(said))
        url = line.split()[-1]
        assert url.startswith("http://127.0.0.1:")
        drain = threading.Thread(target=process.stderr.read)
        drain.start()
        while process.poll() is None:
            try:
                seen.append(scrape(url))
            except OSError:  # it has just ended
                break
            time.sleep(0.05)
        assert process.wait(PATIENCE_S) == 0
        drain.join()
        watchdog.cancel()
    tokens = [sum(found.get(f"{P}tokens_total", {}).values()) for found in seen]
    assert tokens == sorted(tokens)
    assert tokens[-1] > 0
    last = seen[-1]
    known = {family.name for family in FAMILIES}
    assert {name for name in last if not name.endswith("_created")} <= known
    assert last[f"{P}agent_state"]["one", "ready"] == 1.0
    with Ledger.open(out / LEDGER_FILE) as ledger:
        booked = sum(ledger.summary(run).tokens for run in ledger.labels().values())
        energy = sum(ledger.summary(run).energy().value for run in ledger.labels().values())
    assert tokens[-1] <= booked
    assert 0.0 < sum(last[f"{P}transmit_energy_joules_total"].values()) <= energy * (1 + 1e-9)


def test_a_port_that_is_taken_is_an_error_of_one_line(
    testbed: Path, tmp_path: Path, capsys
) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        options = ["--metrics-port", port, "--out", str(tmp_path / "run"), "--items", "1"]
        assert main(["run", str(testbed), "--policy", "topk", *options]) == 1
    assert f"127.0.0.1:{port} cannot be bound" in capsys.readouterr().err


def test_a_run_goes_on_without_a_missing_agent_unless_all_are_required(
    testbed: Path, tmp_path: Path, monkeypatch, capsys
) -> None:
    monkeypatch.setattr("siftmoe.coordinator.connect.CONNECT_TIMEOUT_S", scaled_s(1.0))
    more = tmp_path / "testbed.toml"
    text = testbed.read_text().replace('"bundle"', f'"{testbed.parent / "bundle"}"')
    text = text.replace('name = "one"\n', 'name = "one"\nexperts = "*:0-3"\n')
    more.write_text(
        f'{text}[[agent]]\nname = "two"\naddress = "tcp://127.0.0.1:1"\nexperts = "*:0-3"\n'
    )
    small = ["--policy", "topk", "--task", "perplexity", "--items", "1", "--tokens", "2"]
    assert main(["run", str(more), *small, "--out", str(tmp_path / "run")]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "Began without two; the others host every expert." in shown
    assert "two was left out" in shown
    assert "Began without two" in (tmp_path / "run" / "report.html").read_text()
    other = ["--require-all", "--out", str(tmp_path / "other")]
    assert main(["run", str(more), *small, *other]) == 1
    assert "'two' (tcp://127.0.0.1:1) is connecting" in capsys.readouterr().err
