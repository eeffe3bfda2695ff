"""``siftmoe status`` on real agents: encrypted, hot, busy, dead, and one that comes and goes."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from bundles import shape_of, write_bundle

from siftmoe.agent.config import AgentConfig
from siftmoe.agent.process.launch import LaunchedAgent, spawn
from siftmoe.agent.wire.protocol import Apply, StatsReply
from siftmoe.coordinator.client.health.heat import hot
from siftmoe.tools.cli import main
from siftmoe.tools.flashing.keys import make_keys
from siftmoe.tools.flashing.site import Site
from siftmoe.tools.watching.agents import watching

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SHAPE = shape_of()
PATIENCE_S = 20.0
PROGRAM = "import sys; from siftmoe.tools.cli import main; sys.exit(main())"
NOWHERE = "tcp://127.0.0.1:9"
HOT = {
    "class/thermal/thermal_zone0/type": "CPU-therm",
    "class/thermal/thermal_zone0/temp": "97500",
    "class/thermal/thermal_zone0/trip_point_0_type": "passive",
    "class/thermal/thermal_zone0/trip_point_0_temp": "99000",
    "bus/i2c/devices/1-0040/name": "ina3221",
    "bus/i2c/devices/1-0040/hwmon/hwmon0/in1_label": "VDD_IN",
    "bus/i2c/devices/1-0040/hwmon/hwmon0/in1_input": "5000",
    "bus/i2c/devices/1-0040/hwmon/hwmon0/curr1_input": "1200",
}


def write_testbed(path: Path, addresses: dict[str, str]) -> Path:
    entries = "".join(
        f'[[agent]]\nname = "{name}"\naddress = "{address}"\nexperts = "*:*"\n'
        for name, address in addresses.items()
    )
    path.write_text(f'[model]\nbundle = "bundle"\n{entries}')
    return path


class Testbed:
    """Two agents with keys, one of them hot, and one that is not there."""

    __test__ = False

    def __init__(self, folder: Path) -> None:
        self.folder, self.path = folder, folder / "testbed.toml"
        write_bundle(folder / "bundle", SHAPE)
        write_testbed(self.path, {"cool": "ipc:///cool", "hot": "ipc:///hot", "gone": NOWHERE})
        make_keys(self.path)
        for name, text in HOT.items():
            path = folder / "sys" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"{text}\n")
        started = {
            "cool": spawn(self.config("cool", sysfs=str(folder / "none"))),
            "hot": spawn(self.config("hot", sysfs=str(folder / "sys"))),
        }
        self.agents: dict[str, LaunchedAgent] = {n: agent.wait() for n, agent in started.items()}
        text = self.path.read_text()
        for name, agent in self.agents.items():
            text = text.replace(f"ipc:///{name}", agent.endpoint)
        self.path.write_text(text)

    def config(self, name: str, **options: Any) -> AgentConfig:
        keys = self.folder / "keys"
        return AgentConfig.from_options(
            {
                **{"bundle": str(self.folder / "bundle"), "name": name, "threads": 1},
                **{"key": str(keys / f"{name}.key"), "allow": str(keys / "allowed")},
                **{"idle_s": 0.1, **options},
            }
        )


@pytest.fixture(scope="module")
def testbed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Testbed]:
    testbed = Testbed(tmp_path_factory.mktemp("testbed"))
    yield testbed
    for agent in testbed.agents.values():
        agent.stop()


def status(capsys: Any, testbed: Testbed, *options: str) -> tuple[int, str]:
    code = main(["status", str(testbed.path), *options])
    return code, capsys.readouterr().out


def test_what_each_agent_says(testbed: Testbed, capsys: Any) -> None:
    code, out = status(capsys, testbed, "--json")
    rows = {row["agent"]: row for row in map(json.loads, out.splitlines())}
    assert code == 1
    assert {name: row["state"] for name, row in rows.items()} == {
        **{"cool": "ready", "hot": "ready", "gone": "connecting"}
    }
    cool, warm, gone = rows["cool"], rows["hot"], rows["gone"]
    assert (cool["experts"], cool["queue"], cool["hot"]) == (6, 0, [])
    assert cool["provider"] == "CPUExecutionProvider"
    assert 1e7 < cool["memory_bytes"] < cool["memory_free_bytes"]
    assert (cool["temperature_c"], cool["power_w"]) == (None, None)
    assert cool["stats"]["counters"]["admitted"] >= 1
    assert (warm["temperature_c"], warm["power_w"]) == (97.5, pytest.approx(6.0))
    assert warm["hot"] == ["CPU-therm 98 of 99 °C"]
    assert (gone["stats"], gone["queue"], gone["board"]) == (None, None, None)
    assert status(capsys, testbed, "cool", "hot", "--json")[0] == 0


def test_the_table(testbed: Testbed, capsys: Any) -> None:
    code, out = status(capsys, testbed)
    assert code == 1
    lines = {line.split()[0]: line for line in out.splitlines()[2:] if line.split()}
    assert "CPU-therm 98 of 99 °C" in lines["hot:"]
    assert "ready, hot" in lines["hot"]
    assert "6.00 W" in lines["hot"]
    assert "hot" not in lines["cool"]
    assert "cool:" not in lines
    assert "nothing listens there" in lines["gone:"]
    assert "service" not in out  # no board is reached over SSH here


def background(command: list[str]) -> subprocess.Popen[str]:
    """Start a process as a shell starts one in the background: it ignores SIGINT at first."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def following(path: Path) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-c", PROGRAM, "status", str(path), "gone", "cool"]
    command += ["--watch", "--every", "0.2", "--json"]
    with background(command) as process:
        watchdog = threading.Timer(3 * PATIENCE_S, process.kill)
        watchdog.start()
        try:
            yield process
        finally:
            process.kill()
            watchdog.cancel()


def test_following_notices_who_comes_and_goes(testbed: Testbed) -> None:
    """A process of its own, which is interrupted as a person does it."""
    agent = spawn(testbed.config("gone")).wait()
    path = testbed.folder / "follow.toml"
    path.write_text(testbed.path.read_text().replace(NOWHERE, agent.endpoint))
    try:
        with following(path) as process:

            def until(condition: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
                assert process.stdout is not None
                for line in process.stdout:
                    row: dict[str, Any] = json.loads(line)
                    if row["agent"] == "gone" and condition(row):
                        return row
                pytest.fail("it ended before that was so")

            assert until(lambda row: row["state"] == "ready")["rows_per_s"] is None
            until(lambda row: row["rows_per_s"] == 0.0)
            agent.stop()
            assert until(lambda row: row["state"] == "dead")["stats"] is None
            agent = spawn(testbed.config("gone", bind=agent.endpoint)).wait()
            again = until(lambda row: row["state"] == "ready" and row["stats"] is not None)
            assert again["rows_per_s"] is None
            process.send_signal(signal.SIGINT)
            process.communicate(timeout=PATIENCE_S)
            assert process.returncode == 0
    finally:
        agent.stop()


def test_a_table_that_follows(testbed: Testbed, capsys: Any) -> None:
    code, out = status(capsys, testbed, "cool", "--watch", "--every", "0.05", "--looks", "3")
    assert code == 0
    assert out.count("rows/s") == 3
    assert "Traceback" not in out


def test_the_rate_is_that_between_two_looks(testbed: Testbed) -> None:
    site = Site.load(testbed.path)
    with watching(site, [0], timeout_s=PATIENCE_S) as agents:
        [first] = agents.look()
        client = agents._client
        hidden = np.zeros((50, SHAPE.hidden_size), np.float32)
        pairs = np.stack([np.arange(50), np.zeros(50)], 1).astype(np.int32)
        weights = np.ones(50, np.float32)
        request = Apply(id=client.next_id(), layer=0, hidden=hidden, pairs=pairs, weights=weights)
        client.exchange({0: request}, deadline_s=PATIENCE_S).require()
        [second] = agents.look()
    counters = [row["stats"]["counters"] for row in (first, second)]
    elapsed_s = counters[1]["uptime_s"] - counters[0]["uptime_s"]
    assert first["rows_per_s"] is None
    assert second["rows_per_s"] == pytest.approx(50 / elapsed_s)


def test_what_counts_as_hot() -> None:
    stats = StatsReply(
        id=1,
        counters={},
        temperature_c={"CPU": 94.1, "GPU": 90.0, "TJ": 80.0},
        limit_c={"CPU": 99.0, "GPU": 99.0, "CV": 10.0},
        throttling={"cpu-throttle-alert": 0.0, "thermal-cpufreq-0": 0.25},
    )
    assert hot(stats, margin_k=5.0) == ["CPU 94 of 99 °C", "thermal-cpufreq-0 25%"]
