"""Metrics of a running agent, read over HTTP as Prometheus does."""

from __future__ import annotations

import socket
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import zmq
from bundles import shape_of, write_bundle
from prometheus_client.parser import text_string_to_metric_families

from siftmoe.agent.config import AgentConfig
from siftmoe.agent.process.launch import AgentFailedToStart, launch
from siftmoe.agent.process.metrics import FAMILIES
from siftmoe.agent.wire.protocol import Apply, Result, Stats, StatsReply, decode, encode

if TYPE_CHECKING:
    from collections.abc import Iterator

    from siftmoe.agent.process.launch import LaunchedAgent

SHAPE = shape_of()
PATIENCE_S = 20.0

#: A warm board that throttles.
SYSFS = {
    "class/thermal/thermal_zone0/type": "CPU-therm",
    "class/thermal/thermal_zone0/temp": "97500",
    "class/thermal/thermal_zone0/trip_point_0_type": "passive",
    "class/thermal/thermal_zone0/trip_point_0_temp": "99000",
    "class/thermal/cooling_device0/type": "cpu-throttle-alert",
    "class/thermal/cooling_device0/cur_state": "1",
    "class/thermal/cooling_device0/max_state": "1",
    "class/hwmon/hwmon1/oc1_event_cnt": "7",
    "bus/i2c/devices/1-0040/name": "ina3221",
    "bus/i2c/devices/1-0040/hwmon/hwmon0/in1_label": "VDD_IN",
    "bus/i2c/devices/1-0040/hwmon/hwmon0/in1_input": "5000",
    "bus/i2c/devices/1-0040/hwmon/hwmon0/curr1_input": "1200",
}


def board(root: Path) -> Path:
    for name, text in SYSFS.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{text}\n")
    return root


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_bundle(tmp_path_factory.mktemp("bundle") / "plain", SHAPE)


@pytest.fixture(scope="module")
def agent(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LaunchedAgent]:
    sysfs = board(tmp_path_factory.mktemp("sys"))
    launched = launch(
        AgentConfig(
            bundle=str(bundle), name="warm", threads=1, metrics_port=0, idle_s=0.1, sysfs=str(sysfs)
        )
    )
    yield launched
    launched.stop()


def scrape(url: str) -> dict[str, dict[tuple[str, ...], float]]:
    """Samples by name and labels' values."""
    with urllib.request.urlopen(url, timeout=PATIENCE_S) as reply:
        assert reply.headers["Content-Type"].startswith("text/plain")
        text = reply.read().decode()
    found: dict[str, dict[tuple[str, ...], float]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found.setdefault(sample.name, {})[tuple(sample.labels.values())] = sample.value
    return found


def ask(agent: LaunchedAgent, *requests: object) -> list[object]:
    context = zmq.Context()
    with context.socket(zmq.DEALER) as dealer:
        dealer.linger = 0
        dealer.rcvtimeo = int(PATIENCE_S * 1e3)
        dealer.connect(agent.endpoint)
        replies = []
        for request in requests:
            dealer.send_multipart(encode(request))
            replies.append(decode(dealer.recv_multipart()))
    context.term()
    return replies


def apply(number: int, expert: int = 0) -> Apply:
    return Apply(
        id=number,
        layer=0,
        hidden=np.ones((3, SHAPE.hidden_size), np.float32),
        pairs=np.array([(row, expert) for row in range(3)], np.int32),
        weights=np.ones(3, np.float32),
    )


def test_what_an_agent_did_can_be_scraped(agent: LaunchedAgent) -> None:
    before = scrape(agent.started["metrics"])
    replies = ask(agent, apply(1), apply(2), apply(3, expert=99))
    assert [isinstance(reply, Result) for reply in replies] == [True, True, False]
    after = scrape(agent.started["metrics"])
    requests = after["siftmoe_agent_requests_total"]
    assert (
        requests["served",]
        == before.get("siftmoe_agent_requests_total", {}).get(("served",), 0.0) + 2
    )
    assert requests["refused",] >= 1
    assert after["siftmoe_agent_rows_total"][()] >= 6
    assert after["siftmoe_agent_compute_seconds_total"][()] > 0.0
    assert after["siftmoe_agent_uptime_seconds"][()] > before["siftmoe_agent_uptime_seconds"][()]
    assert after["siftmoe_agent_experts"][()] == SHAPE.num_layers * SHAPE.num_experts
    [(_, name, provider, _)] = after["siftmoe_agent_info"]
    assert (name, provider) == ("warm", "CPUExecutionProvider")
    known = {family.name for family in FAMILIES}
    assert {name for name in after if not name.endswith("_created")} <= known


def test_a_hot_board_is_seen_by_both_ways(agent: LaunchedAgent) -> None:
    found = scrape(agent.started["metrics"])
    assert found["siftmoe_agent_temperature_celsius"] == {("CPU-therm",): 97.5}
    assert found["siftmoe_agent_temperature_limit_celsius"] == {("CPU-therm",): 99.0}
    assert found["siftmoe_agent_throttling_ratio"] == {("cpu-throttle-alert",): 1.0}
    assert found["siftmoe_agent_overcurrent_events_total"] == {(): 7.0}
    assert found["siftmoe_agent_board_power_watts"] == {(): pytest.approx(6.0)}
    assert found["siftmoe_agent_power_watts"] == {("VDD_IN",): pytest.approx(6.0)}
    energy = found["siftmoe_agent_board_energy_joules_total"][()]
    assert scrape(agent.started["metrics"])["siftmoe_agent_board_energy_joules_total"][()] >= energy
    [stats] = ask(agent, Stats(id=1))
    assert isinstance(stats, StatsReply)
    assert (stats.temperature_c, stats.limit_c) == ({"CPU-therm": 97.5}, {"CPU-therm": 99.0})
    assert stats.throttling == {"cpu-throttle-alert": 1.0}
    assert stats.counters["overcurrent_events"] == 7.0


def test_a_board_without_sensors_claims_nothing(bundle: Path, tmp_path: Path) -> None:
    agent = launch(AgentConfig(bundle=str(bundle), threads=1, metrics_port=0, sysfs=str(tmp_path)))
    try:
        names = scrape(agent.started["metrics"]).keys()
    finally:
        agent.stop()
    absent = ("temperature", "throttl", "power", "energy", "overcurrent")
    assert not [name for name in names for part in absent if part in name]


def test_it_listens_on_loopback_and_only_where_asked(bundle: Path, agent: LaunchedAgent) -> None:
    assert agent.started["metrics"].startswith("http://127.0.0.1:")
    port = int(agent.started["metrics"].rpartition(":")[2].partition("/")[0])
    with pytest.raises(AgentFailedToStart, match=f"127.0.0.1:{port} cannot be bound"):
        launch(AgentConfig(bundle=str(bundle), threads=1, metrics_port=port))
    with socket.socket() as elsewhere:
        assert elsewhere.connect_ex(("127.0.0.2", port)) != 0
    request = urllib.request.Request(agent.started["metrics"], data=b"x", method="POST")
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(request, timeout=PATIENCE_S)
    refused.value.close()
    assert refused.value.code == 405


def test_without_the_library_it_says_what_to_install() -> None:
    code = (
        "import sys; sys.modules['prometheus_client'] = None\n"
        "from siftmoe.agent.process.exposition import Exposition\n"
        "Exposition(lambda: [], port=0)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert run.returncode == 1
    assert "ConfigError: metrics need prometheus-client" in run.stderr
    assert "siftmoe[metrics]" in run.stderr
