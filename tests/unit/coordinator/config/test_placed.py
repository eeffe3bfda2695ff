"""Lists of experts in a testbed file: only they change, and what cannot be written is refused."""

from __future__ import annotations

import msgspec
import pytest

from siftmoe.coordinator.config.entries import Testbed
from siftmoe.coordinator.config.placed import with_experts
from siftmoe.coordinator.errors import ConfigError

TEXT = """# my bench: [[agent]] comes below
[model]
bundle = "b"  # [not a table]

[[agent]]   # the near one
experts = [
  [0, 0],   # a comment ]
  [0, 1],
]
name = "near"
address = "tcp://h:1"

[[agent]]
name = 'far'
address = "tcp://h:2"
distance_m = 9.5
experts = "auto"

[radio]
bandwidth_hz = 1e6
"""


def test_only_the_lists_change() -> None:
    many = [(layer, expert) for layer in range(8) for expert in range(4)]
    written = with_experts(TEXT, {"near": [(1, 0)], "far": many})
    for line in ("# my bench: [[agent]] comes below", "[[agent]]   # the near one"):
        assert line in written.splitlines()
    assert max(map(len, written.splitlines())) <= 96
    testbed = msgspec.toml.decode(written, type=Testbed)
    assert [list(agent.experts) for agent in testbed.agent] == [[(1, 0)], many]
    assert testbed.radio.bandwidth_hz == 1e6
    assert with_experts(written, {"near": [(1, 0)], "far": many}) == written


def test_an_agent_without_experts_cannot_be_written() -> None:
    with pytest.raises(ConfigError, match="agent 'far' would host nothing"):
        with_experts(TEXT, {"near": [(0, 0)], "far": []})


def test_agents_that_are_no_tables_are_refused() -> None:
    inline = 'agent = [{name = "near", address = "tcp://h:1"}]\n[model]\nbundle = "b"\n'
    with pytest.raises(ConfigError, match=r"must be \[\[agent\]\] tables"):
        with_experts(inline, {"near": [(0, 0)]})
