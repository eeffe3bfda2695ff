"""An agent that floods a coordinator with unasked messages and goes: the coordinator lives on."""

from __future__ import annotations

import subprocess
import sys

import pytest
from peers import Peer

from siftmoe.agent.errors import ErrorCode
from siftmoe.agent.wire.protocol import Failure, Stats, StatsReply

#: More than wait at a coordinator for one agent.
UNASKED = 300
ROUNDS = 3
#: Asks both agents, computes without looking at its connections for several heartbeats, takes what
#: has arrived in small portions between further computations, and asks the second one again. A
#: process of its own, since an abort would end this one.
COORDINATOR = """
import sys, time
from siftmoe.agent.wire.protocol import Stats, StatsReply
from siftmoe.coordinator.client import requests
from siftmoe.coordinator.client.requests import Client
from siftmoe.coordinator.config.testbed import AgentEntry
from siftmoe.coordinator.fleet.agents import Fleet
from siftmoe.models.shape import ModelShape

shape = ModelShape(
    num_layers=1, num_experts=2, top_k=1, hidden_size=8, intermediate_size=8, activation="silu"
)
entries = [AgentEntry(name=f"a{n}", address=address) for n, address in enumerate(sys.argv[1:])]
with Client(Fleet(entries, shape=shape, model_hash="m" * 64)) as client:
    client.connect(timeout_s=30.0)
    for index in (0, 1):
        client.exchange({index: Stats(id=client.next_id())}, deadline_s=30.0).require()
    print("asked", flush=True)
    sys.stdin.readline()
    time.sleep(0.5)
    drain, requests._DRAIN = requests._DRAIN, 4
    for _ in range(100):
        client.poll()
        time.sleep(2e-3)
    requests._DRAIN = drain
    reply = client.exchange({1: Stats(id=client.next_id())}, deadline_s=30.0).require()[1]
    print("served", isinstance(reply, StatsReply), client.fleet[0].state.value, flush=True)
"""


def stats(request: Stats) -> list[StatsReply]:
    return [StatsReply(id=request.id, counters={})]


def flood(request: Stats) -> list[StatsReply | Failure]:
    unasked = Failure(id=10**9, code=ErrorCode.BUSY, message="x")
    return [*stats(request), *[unasked] * UNASKED]


@pytest.mark.parametrize("back", [False, True], ids=["stays away", "comes back"])
def test_an_agent_that_floods_and_goes_ends_no_coordinator(back: bool) -> None:
    for _ in range(ROUNDS):
        flooder, other = Peer(flood), Peer(stats)
        coordinator = subprocess.Popen(
            [sys.executable, "-c", COORDINATOR, flooder.address, other.address],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        with coordinator:
            assert coordinator.stdout is not None
            assert coordinator.stdout.readline() == "asked\n"
            flooder.close()
            if back:
                flooder = Peer(stats, again=flooder.address)
            said, errors = coordinator.communicate("\n", timeout=60.0)
        other.close()
        if back:
            flooder.close()
        assert coordinator.returncode == 0, errors
        if not back:
            assert errors.endswith("the process is gone\n")
            assert errors.count("\n") == 1
        assert said.startswith("served True")
