import re

import pytest

from siftmoe.agent.errors import ErrorCode
from siftmoe.agent.process.metrics import (
    CONNECTIONS,
    FAMILIES,
    PLAIN,
    REFUSALS,
    REQUESTS,
    stats_samples,
)
from siftmoe.agent.wire.messages import StatsReply

UNITS = ("seconds", "bytes", "joules", "watts", "celsius", "ratio")


def samples(**fields):
    return {
        found.family.name: dict(found.values)
        for found in stats_samples(StatsReply(id=1, **fields))
        if found.values
    }


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_names_follow_the_conventions(family):
    assert re.fullmatch(r"siftmoe_agent_[a-z_]+[a-z]", family.name)
    assert (family.kind == "counter") == family.name.endswith("_total")
    assert family.text.endswith(".")
    assert not {"le", "quantile", "job", "instance"} & {*family.labels}
    words = family.name.removesuffix("_total").split("_")
    assert not {"ms", "us", "mb", "kb", "mw", "percent"} & {*words}
    for unit in UNITS:
        assert unit not in words or words[-1] == unit


def test_names_are_unique():
    names = [family.name for family in FAMILIES]
    assert len(names) == len({*names})


def test_what_is_not_known_has_no_sample():
    assert samples(counters={}) == {}


def test_a_stats_reply_as_samples():
    found = samples(
        counters={
            **{name: float(place) for place, name in enumerate(PLAIN)},
            **{"served": 5.0, "failed": 1.0, "answered_busy": 2.0, "undeliverable_sounding": 3.0},
            **{"connections_greeted": 4.0, "board_gain_std": 0.0058},
        },
        power_w={"VDD_IN": 5.5, "VDD_SOC": 1.5, "total = VDD_IN": 5.5},
        temperature_c={"CPU": 45.5},
        limit_c={"CPU": 99.0},
        throttling={"cpu-throttle-alert": 0.5},
    )
    for place, family in enumerate(PLAIN.values()):
        assert found.pop(family.name) == {(): place}
    assert found == {
        "siftmoe_agent_board_power_watts": {(): 5.5},
        "siftmoe_agent_power_watts": {("VDD_IN",): 5.5, ("VDD_SOC",): 1.5},
        "siftmoe_agent_temperature_celsius": {("CPU",): 45.5},
        "siftmoe_agent_temperature_limit_celsius": {("CPU",): 99.0},
        "siftmoe_agent_throttling_ratio": {("cpu-throttle-alert",): 0.5},
        REQUESTS.name: {("served",): 5.0, ("failed",): 1.0},
        REFUSALS.name: {("busy",): 2.0},
        "siftmoe_agent_undeliverable_replies_total": {("sounding",): 3.0},
        CONNECTIONS.name: {("greeted",): 4.0},
    }


def test_labels_are_few():
    """Every label but a board's zones, rails and measures has a known set of values."""
    codes = {(code.value,) for code in ErrorCode}
    counters = {f"answered_{code.value}": 1.0 for code in ErrorCode}
    assert samples(counters=counters)[REFUSALS.name].keys() == codes
