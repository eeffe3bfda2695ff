"""Flashing over a real sshd: real releases, environments and agents; and what interrupts it.

The tests share one board, since its Python environment takes a while to install, and follow upon
each other as the days of a board do; each leaves it serving.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import socket
from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
from boards import free_port
from flash_bench import Bench, Watch, agent_process, agent_said, benches, kill_agent

from siftmoe.agent.security.keys import KeyPair
from siftmoe.radio.device import RadioSettings
from siftmoe.radio.opening import open_radio
from siftmoe.tools.flashing.keys import make_keys
from siftmoe.tools.flashing.rollout import Rollout

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

SETTINGS = RadioSettings(
    carrier_hz=2.45e9, sample_rate_hz=2e6, tx_attenuation_db=20.0, rx_gain_db=40.0
)


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    yield from benches(tmp_path_factory.mktemp("flash"))


@pytest.fixture
def flashed(bench: Bench) -> Bench:
    if bench.changed:
        bench.write()
        outcome = bench.flash()
        assert outcome.result in ("flashed", "unchanged"), outcome
        bench.changed = False
    return bench


def test_a_dry_run_tells_what_would_change_and_writes_nothing(bench: Bench) -> None:
    planned = bench.flash(dry_run=True)
    assert planned.result == "planned"
    assert planned.detail.startswith("would change; Python 3.")
    assert "supervisor, no sudo needed" in planned.detail
    assert planned.files > 8
    assert not bench.root.exists()


def test_a_push_that_is_cut_off_goes_on_where_it_was(bench: Bench, capsys) -> None:
    def cut() -> None:
        if watch.sent > 20e6:
            for session in bench.sshd.sessions():
                os.kill(session, signal.SIGKILL)

    watch = Watch(sent=cut)
    planned = bench.flash(dry_run=True)
    outcome = bench.flash(watch)
    assert outcome.result == "failed"
    assert "again" in outcome.detail  # whether the transfer or a command beside it noticed first
    assert not (bench.root / "current").exists()
    again = bench.flash()
    assert again.result == "flashed", again
    assert again.release == planned.release
    # all may have arrived before the session was gone
    assert again.num_bytes < planned.num_bytes
    assert bench.serving(capsys) == planned.release


def test_a_board_has_its_own_experts_only_and_nobody_else_reads_its_key(flashed: Bench) -> None:
    current = flashed.root / "current"
    experts = sorted(path.name for path in (current / "bundle" / "experts").iterdir())
    assert experts == [f"layer_{layer:03d}_expert_000.onnx" for layer in range(2)]
    assert (current / "keys" / "agent.key").stat().st_mode & 0o777 == 0o600
    pair = KeyPair.load(flashed.folder / "keys" / "one.key")
    assert KeyPair.load(current / "keys" / "agent.key") == pair
    log = (flashed.root / "run" / "agent.log").read_text()
    assert pair.secret not in log
    assert [path.name for path in (flashed.root / "incoming").iterdir()] == []


def test_what_is_there_is_not_sent_again(flashed: Bench, capsys) -> None:
    before = flashed.serving(capsys)
    process = agent_process(flashed)
    outcome = flashed.flash()
    assert (outcome.result, outcome.num_bytes, outcome.files) == ("unchanged", 0, 0)
    assert flashed.serving(capsys) == before
    assert agent_process(flashed) == process


def test_a_change_sends_what_is_new_and_rollback_goes_back(flashed: Bench, capsys) -> None:
    before = flashed.serving(capsys)
    flashed.write(experts="*:0-1")
    outcome = flashed.flash()
    assert outcome.result == "flashed", outcome
    assert outcome.files == 2  # an expert of each of two layers
    assert outcome.num_bytes < 20_000
    after = flashed.serving(capsys)
    assert after == outcome.release != before
    flashed.write()
    assert flashed.command("rollback", "one") == 0
    assert flashed.serving(capsys) == before
    assert flashed.command("rollback", "one") == 0
    flashed.write(experts="*:0-1")
    assert flashed.serving(capsys) == after


def test_a_release_is_switched_to_only_where_its_radio_answers(flashed: Bench, capsys) -> None:
    before, process = flashed.serving(capsys), agent_process(flashed)
    (name,), (uri,), (serial,) = flashed.plutos.names, flashed.plutos.uris, flashed.plutos.serials
    flashed.write(experts="*:2")
    flashed.plutos.unplug(name)
    try:
        outcome = flashed.flash()
        assert (outcome.result, outcome.board) == ("failed", "one")
        assert f"radio '{uri}': Connection refused" in outcome.detail
        assert "The board keeps what it has; connect the radio and flash again" in outcome.detail
        assert agent_process(flashed) == process
    finally:
        flashed.plutos.plug(name)
    # What was sent and computed is kept; somebody transmits on the radio meanwhile.
    with closing(open_radio(uri)) as radio:
        radio.tune(SETTINGS)
        radio.transmit(np.full(1024, 0.5, dtype=np.complex64))
        again = flashed.flash()
        assert flashed.plutos.transmitting() == [name]
    assert (again.result, again.num_bytes) == ("flashed", 0), again
    assert f"radio {uri}: " in again.detail
    assert f"serial {serial}" in again.detail
    assert flashed.serving(capsys) == again.release != before


def test_with_new_keys_the_old_ones_can_be_forgotten(flashed: Bench, capsys) -> None:
    old = KeyPair.load(flashed.folder / "keys" / "one.key")
    make_keys(flashed.testbed, renew=["one"])
    outcome = flashed.flash(forget=True)
    assert (outcome.result, outcome.files) == ("flashed", 1)
    assert flashed.serving(capsys) == outcome.release
    assert [path.name for path in (flashed.root / "releases").iterdir()] == [outcome.release]
    for path in flashed.root.rglob("*"):
        if path.is_file() and path.stat().st_size < 10_000:
            assert old.secret.encode() not in path.read_bytes(), path
    assert flashed.command("rollback", "one") == 1
    assert "no release to go back to" in capsys.readouterr().out


def test_a_file_that_arrives_damaged_is_refused_and_sent_again(flashed: Bench, capsys) -> None:
    before = flashed.serving(capsys)

    def damage() -> None:
        part = next((flashed.root / "blobs").glob("*.part"))
        part.write_bytes(part.read_bytes()[:-1] + b"\0")

    flashed.write(experts="*:0,*:2")
    outcome = flashed.flash(Watch(install=damage))
    assert outcome.result == "failed"
    assert "arrived damaged" in outcome.detail
    flashed.write()
    assert flashed.serving(capsys) == before
    flashed.write(experts="*:0,*:2")
    assert flashed.flash().result == "flashed"


def test_a_release_that_crashes_at_start_is_left_for_the_one_before(flashed, capsys) -> None:
    before = flashed.serving(capsys)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        flashed.write(port=taken.getsockname()[1])
        outcome = flashed.flash()
    assert outcome.result == "failed"
    assert "is in use by another process" in outcome.detail
    assert f"release {before} serves again" in outcome.detail
    flashed.write()
    assert flashed.serving(capsys) == before


def test_a_release_that_serves_but_does_not_answer_us_is_left_too(flashed, capsys) -> None:
    before = flashed.serving(capsys)
    allowed = flashed.folder / "keys" / "allowed"
    text = allowed.read_text()
    allowed.write_text(f"{KeyPair.generate().public} somebody-else\n")
    try:
        outcome = flashed.flash()
    finally:
        allowed.write_text(text)
    assert outcome.result == "failed"
    assert "does not admit this coordinator's" in outcome.detail
    assert f"release {before} serves again" in outcome.detail
    assert flashed.serving(capsys) == before


def test_a_board_takes_releases_of_its_workstation_only(flashed: Bench, capsys, tmp_path) -> None:
    before = flashed.serving(capsys)
    key = flashed.folder / "keys" / "release.key"
    shutil.move(key, tmp_path / "release.key")
    try:
        outcome = flashed.flash()
        assert outcome.result == "failed"
        assert "another workstation; --adopt" in outcome.detail
    finally:
        key.unlink(missing_ok=True)
        shutil.move(tmp_path / "release.key", key)
    assert flashed.serving(capsys) == before


def test_a_release_that_was_changed_on_the_board_is_not_run(flashed: Bench, capsys) -> None:
    serving = flashed.serving(capsys)
    manifest = flashed.root / "releases" / serving / "release.json"
    text = manifest.read_bytes()
    manifest.unlink()
    manifest.write_bytes(text.replace(b"--name=one", b"--name=evil"))
    outcome = flashed.flash()
    assert outcome.result == "failed"
    assert "not signed by whom this board takes releases from" in outcome.detail
    manifest.write_bytes(text)
    assert flashed.flash().result == "unchanged"


def test_an_agent_that_is_killed_is_started_again(flashed: Bench, capsys) -> None:
    serving = flashed.serving(capsys)
    kill_agent(flashed)
    assert flashed.serving(capsys) == serving


def test_a_board_compiles_what_packs_vectors_once_and_before_the_switch(
    flashed: Bench, capsys
) -> None:
    flashed.write(packing="compiled")
    outcome = flashed.flash()
    assert outcome.result == "flashed", outcome
    assert "compiled packing" in outcome.detail
    assert agent_said(flashed)["packing"] == "compiled"
    [cache] = (flashed.root / "cache").iterdir()
    assert cache.name == (flashed.root / "current" / "venv").resolve().name
    compiled = {path: path.stat().st_mtime_ns for path in cache.rglob("*.nbc")}
    assert compiled
    kill_agent(flashed)
    assert agent_said(flashed)["packing"] == "compiled"
    assert {path: path.stat().st_mtime_ns for path in cache.rglob("*.nbc")} == compiled
    flashed.write()
    assert flashed.flash(forget=True).result == "flashed"
    assert agent_said(flashed)["packing"] == "numpy"
    assert list((flashed.root / "cache").iterdir()) == []
    flashed.serving(capsys)


def test_a_board_that_cannot_be_logged_in_to_is_named(flashed: Bench, tmp_path: Path) -> None:
    config = tmp_path / "config"
    text = flashed.sshd.config.read_text()
    config.write_text(text.replace(f"Port {flashed.sshd.port}", f"Port {free_port()}"))
    site = replace(flashed.site(), ssh_config=config)
    (outcome,) = asyncio.run(Rollout(site=site, report=Watch()).run([0]))
    assert outcome.result == "failed"
    assert "cannot log in as 'board'" in outcome.detail


def test_logs_and_unflash(flashed: Bench, capsys) -> None:
    capsys.readouterr()
    assert flashed.command("logs", "one", "--lines", "50") == 0
    assert '"name": "one"' in capsys.readouterr().out
    process = agent_process(flashed)
    assert flashed.command("unflash", "one") == 0
    assert not flashed.root.exists()
    with pytest.raises(ProcessLookupError):
        os.kill(process, 0)
    assert flashed.command("status", "one") == 1
