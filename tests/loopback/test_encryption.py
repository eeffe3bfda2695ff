"""Agents with keys, a coordinator with and without the right ones; real processes and sockets."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import pytest
from bundles import shape_of, write_bundle

from siftmoe.agent.config import AgentConfig
from siftmoe.agent.process.launch import AgentFailedToStart, spawn
from siftmoe.agent.security.keys import KeyPair
from siftmoe.agent.wire.protocol import Stats
from siftmoe.coordinator.client.requests import Client
from siftmoe.coordinator.client.security import ClientSecurity
from siftmoe.coordinator.config.entries import AgentEntry
from siftmoe.coordinator.errors import AgentUnreachable, ConfigError
from siftmoe.coordinator.fleet.agents import Fleet
from siftmoe.coordinator.fleet.status import AgentState
from siftmoe.models.bundle.manifest import Manifest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from siftmoe.agent.process.launch import LaunchedAgent

SHAPE = shape_of()
PATIENCE_S = 20.0
BOARD, ME, STRANGER = KeyPair.generate(), KeyPair.generate(), KeyPair.generate()


@pytest.fixture(scope="module")
def bundle(tmp_path_factory) -> Path:
    return write_bundle(tmp_path_factory.mktemp("bundle") / "plain", SHAPE)


@contextlib.contextmanager
def agent(
    bundle: Path, folder: Path, *, allowed: KeyPair | None = ME, bind: str = "tcp://127.0.0.1:*"
) -> Iterator[LaunchedAgent]:
    options = {"bundle": str(bundle), "bind": bind, "threads": 1}
    if allowed is not None:
        folder.mkdir()
        BOARD.save(folder / "board.key")
        (folder / "allowed").write_text(f"{allowed.public} coordinator\n")
        options |= {"key": str(folder / "board.key"), "allow": str(folder / "allowed")}
    launched = spawn(AgentConfig.from_options(options)).wait()
    try:
        yield launched
    finally:
        launched.stop()


def fleet_of(address: str, bundle: Path, *, key: str | None) -> Fleet:
    entry = AgentEntry(name="board", address=address, key=key)
    return Fleet([entry], shape=SHAPE, model_hash=Manifest.load(bundle).model_hash)


def counters(client: Client) -> dict[str, float]:
    replies = client.exchange({0: Stats(id=client.next_id())}, deadline_s=PATIENCE_S).require()
    found: dict[str, float] = replies[0].counters  # type: ignore[union-attr]
    # a greeting is counted beside the answers: on a loaded machine after the first one
    return found if "connections_greeted" in found else counters(client)


def test_both_ends_know_each_other(bundle: Path, tmp_path: Path) -> None:
    with agent(bundle, tmp_path / "keys", bind="tcp://0.0.0.0:*") as board:
        port = board.endpoint.rpartition(":")[2]
        fleet = fleet_of(f"tcp://127.0.0.1:{port}", bundle, key=BOARD.public)
        with Client(fleet, security=ClientSecurity(keys=ME)) as client:
            client.connect(timeout_s=PATIENCE_S)
            counted = counters(client)
        assert board.started["encrypted"] is True
        # One connection for requests, one for heartbeats.
        assert {counted["admitted"], counted["connections_greeted"]} <= {1, 2}
        assert BOARD.secret not in str(board.started)


@pytest.mark.parametrize(
    ("key", "mine"),
    [(BOARD.public, STRANGER), (STRANGER.public, ME), (None, None)],
    ids=["not on the list", "another agent's key", "in the clear"],
)
def test_who_does_not_fit_is_refused_and_told_why(bundle, tmp_path, key, mine) -> None:
    with agent(bundle, tmp_path / "keys") as board:
        fleet = fleet_of(board.endpoint, bundle, key=key)
        with Client(fleet, security=ClientSecurity(keys=mine)) as client:
            with pytest.raises(AgentUnreachable, match="does not admit this coordinator's"):
                client.connect(timeout_s=PATIENCE_S)
            assert fleet[0].state is AgentState.REFUSED
        friend = fleet_of(board.endpoint, bundle, key=BOARD.public)
        with Client(friend, security=ClientSecurity(keys=ME)) as client:
            client.connect(timeout_s=PATIENCE_S)
            counted = counters(client)
        assert {counted["connections_greeted"], counted["admitted"]} <= {1, 2}
        assert counted["connections"] < 40  # a wrong key is not tried hundreds of times a second
        assert counted.get("refused_key", 0) == (mine is STRANGER)


def test_an_agent_that_gets_its_right_list_comes_back_by_itself(bundle, tmp_path) -> None:
    with agent(bundle, tmp_path / "wrong", allowed=STRANGER) as board:
        fleet = fleet_of(board.endpoint, bundle, key=BOARD.public)
        client = Client(fleet, security=ClientSecurity(keys=ME))
        with pytest.raises(AgentUnreachable):
            client.connect(timeout_s=PATIENCE_S)
    with client, agent(bundle, tmp_path / "right", bind=board.endpoint):
        for _ in range(int(PATIENCE_S / 0.1)):
            client._take_in(0.1)
            if fleet[0].state is AgentState.READY:
                break
        assert fleet[0].state is AgentState.READY
        assert counters(client)["admitted"] >= 1


def test_nobody_is_talked_to_in_the_clear_beyond_this_machine(bundle, tmp_path) -> None:
    fleet = fleet_of("tcp://203.0.113.1:5555", bundle, key=None)
    with pytest.raises(ConfigError, match=r"'board' .* has no key.*siftmoe keys"):
        Client(fleet)
    # Not with a client: libzmq 4.3.5 may abort at its end where a proxy answers for any address.
    ClientSecurity(insecure=True).check(fleet, {agent.address: agent.index for agent in fleet})
    with pytest.raises(ConfigError, match="the coordinator has none"):
        Client(fleet_of("tcp://127.0.0.1:5555", bundle, key=BOARD.public))
    with (
        pytest.raises(AgentFailedToStart, match=r"has no keys.*--insecure"),
        agent(bundle, tmp_path / "none", allowed=None, bind="tcp://0.0.0.0:*"),
    ):
        pass


TESTBED = """
[model]
bundle = "{bundle}"
[radio]
deadline_s = 0.01
[[agent]]
name = "board"
address = "{address}"
"""


def test_a_run_over_encrypted_links_leaves_no_secret_behind(family_bundle, tmp_path, caplog):
    import torch

    from siftmoe.coordinator.connect import connect
    from siftmoe.models.bundle.reader import Bundle
    from siftmoe.tools.flashing.keys import make_keys

    bundle, testbed = family_bundle("mixtral"), tmp_path / "testbed.toml"
    testbed.write_text(TESTBED.format(bundle=bundle, address="ipc:///x"))
    make_keys(testbed)
    keys = tmp_path / "keys"
    config = AgentConfig(
        bundle=str(bundle), threads=1, key=str(keys / "board.key"), allow=str(keys / "allowed")
    )
    board = spawn(config).wait()
    try:
        testbed.write_text(testbed.read_text().replace("ipc:///x", board.endpoint))
        model, ledger = Bundle.open(bundle).load_backbone(), tmp_path / "ledger.sqlite"
        with connect(testbed, ledger=ledger) as coordinator, torch.inference_mode():
            coordinator.attach(model)
            model(torch.arange(3, 8)[None, :])
            assert coordinator.ledger.summary().tokens == 5
    finally:
        board.stop()
    written = ledger.read_bytes() + testbed.read_bytes() + caplog.text.encode()
    for name in ("board", "coordinator"):
        pair = KeyPair.load(keys / f"{name}.key")
        assert pair.secret.encode() not in written
    assert KeyPair.load(keys / "board.key").public.encode() in written
