"""The Grafana dashboard queries existing metrics by their exact names and labels."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from siftmoe.agent.process import metrics as agent_metrics
from siftmoe.coordinator.ledger import metrics as coordinator_metrics

PATH = Path(__file__).parents[4] / "docs" / "grafana" / "siftmoe.json"
DASHBOARD: dict[str, Any] = json.loads(PATH.read_text(encoding="utf-8"))
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
TARGETS = [(panel["title"], target) for panel in PANELS for target in panel["targets"]]
FAMILIES = {
    family.name: family for family in (*agent_metrics.FAMILIES, *coordinator_metrics.FAMILIES)
}
#: Labels that Prometheus adds.
ADDED = {"instance", "job"}

METRIC = re.compile(r"siftmoe_[a-z_]+")
#: A metric and its matchers.
SELECTOR = re.compile(r"(siftmoe_[a-z_]+)(?:\{([^}]*)\})?")
CLAUSE = re.compile(r"(?:by|on|group_left) \(([^)]*)\)")


def test_every_metric_exists_and_every_one_is_shown() -> None:
    asked = {name for _, target in TARGETS for name in METRIC.findall(target["expr"])}
    assert asked <= FAMILIES.keys()
    quiet = {"experts", "uptime_seconds", "queue_bytes", "batches_total", "power_watts"}
    quiet |= {"board_memory_bytes", "board_energy_joules_total"}
    assert FAMILIES.keys() - asked == {f"siftmoe_agent_{name}" for name in quiet}


@pytest.mark.parametrize(("title", "target"), TARGETS)
def test_a_query_uses_labels_that_exist(title: str, target: dict[str, Any]) -> None:
    query = target["expr"]
    there = set(ADDED)
    for name, matchers in SELECTOR.findall(query):
        there |= {*FAMILIES[name].labels}
        for matcher in filter(None, matchers.split(",")):
            assert re.split("=~|!=|!~|=", matcher)[0] in FAMILIES[name].labels, title
    for clause in CLAUSE.findall(query):
        assert {label.strip() for label in clause.split(",") if label.strip()} <= there, title
    assert {*re.findall(r"\{\{(\w+)\}\}", target["legendFormat"])} <= there, title


@pytest.mark.parametrize(("title", "target"), TARGETS)
def test_counters_are_asked_for_their_rate_and_gauges_are_not(
    title: str, target: dict[str, Any]
) -> None:
    query = target["expr"]
    for name in METRIC.findall(query):
        in_rate = re.search(rf"rate\({name}(\{{[^}}]*\}})?\[\$__rate_interval\]\)", query)
        assert bool(in_rate) == (FAMILIES[name].kind == "counter"), title
    for opening, closing in ("()", "{}", "[]"):
        assert query.count(opening) == query.count(closing), title


def test_panels_are_told_apart_and_do_not_overlap() -> None:
    identities = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(identities) == len({*identities})
    cells = [
        (x, y)
        for panel in DASHBOARD["panels"]
        for place in [panel["gridPos"]]
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]
    assert len(cells) == len({*cells})
    assert max(x for x, _ in cells) < 24


def test_variables_ask_for_labels_that_exist() -> None:
    for variable in DASHBOARD["templating"]["list"]:
        if variable["type"] == "query":
            found = re.fullmatch(r"label_values\((\w+), (\w+)\)", variable["query"]["query"])
            assert found is not None
            assert found[2] in FAMILIES[found[1]].labels
            assert any(f"${variable['name']}" in target["expr"] for _, target in TARGETS)
