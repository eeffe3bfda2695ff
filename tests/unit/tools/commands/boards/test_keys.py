"""The keys command on testbed files in several layouts."""

from __future__ import annotations

import json
import stat
from typing import TYPE_CHECKING

import pytest

from siftmoe.agent.security.keys import KeyPair, load_allowed
from siftmoe.coordinator.client.security import ClientSecurity
from siftmoe.coordinator.config.testbed import load_testbed
from siftmoe.coordinator.errors import ConfigError
from siftmoe.tools.cli import main
from siftmoe.tools.flashing.keys import make_keys

if TYPE_CHECKING:
    from pathlib import Path

TEXT = """\
# my bench
[model]
bundle = "m.bundle"      # relative

[[agent]]                # by the window
name = "left"
address = "tcp://192.0.2.1:5555"
experts = "*:0-1"

  [[agent]]
  address = "tcp://192.0.2.2:5555"
  name = 'right'  # by the door"""


@pytest.fixture
def testbed(tmp_path: Path) -> Path:
    path = tmp_path / "testbed.toml"
    path.write_text(TEXT)
    return path


def test_every_device_gets_keys_and_the_text_stays_as_it_was(testbed: Path) -> None:
    devices = make_keys(testbed)
    assert [device.name for device in devices] == ["coordinator", "left", "right"]
    assert all(device.new for device in devices)
    written = testbed.read_text()
    kept = [line for line in written.splitlines() if not line.strip().startswith("key =")]
    assert kept == TEXT.splitlines()
    config = load_testbed(testbed)
    assert [agent.key for agent in config.agent] == [device.public for device in devices[1:]]
    folder = testbed.parent / "keys"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    for device in devices:
        assert KeyPair.load(folder / f"{device.name}.key").public == device.public
    assert load_allowed(folder / "allowed") == {devices[0].public: "coordinator"}
    assert ClientSecurity.of(config).keys == KeyPair.load(folder / "coordinator.key")


def test_a_second_time_changes_nothing_and_renewing_changes_one(testbed: Path) -> None:
    first = {device.name: device.public for device in make_keys(testbed)}
    text = testbed.read_text()
    assert {d.name: d.public for d in make_keys(testbed) if not d.new} == first
    assert testbed.read_text() == text
    second = {device.name: device.public for device in make_keys(testbed, renew=["left"])}
    assert {name for name in first if first[name] != second[name]} == {"left"}
    assert load_testbed(testbed).agent[0].key == second["left"]
    assert len(testbed.read_text().splitlines()) == len(text.splitlines())


def test_a_colleague_on_the_list_stays_when_the_coordinator_is_renewed(testbed: Path) -> None:
    old = make_keys(testbed)[0].public
    allowed = testbed.parent / "keys" / "allowed"
    colleague = KeyPair.generate().public
    allowed.write_text(f"{allowed.read_text()}{colleague}  anna\n")
    new = make_keys(testbed, renew=["coordinator"])[0].public
    assert new != old
    assert load_allowed(allowed) == {new: "coordinator", colleague: "anna"}


def test_a_layout_that_cannot_be_written_to_is_told(testbed: Path) -> None:
    testbed.write_text(
        '[model]\nbundle = "m"\n[[agent]]\n"name" = "a"\naddress = "tcp://192.0.2.1:5555"\n'
    )
    with pytest.raises(ConfigError, match=r"put key = .* into agent 'a' by hand"):
        make_keys(testbed)
    with pytest.raises(ConfigError, match="has no 'b': coordinator, a"):
        make_keys(testbed, renew=["b"])


def test_the_command_prints_public_keys_only(testbed: Path, capsys) -> None:
    assert main(["keys", str(testbed), "--json"]) == 0
    said = capsys.readouterr().out
    found = json.loads(said)
    for device in found["devices"]:
        pair = KeyPair.load(testbed.parent / "keys" / f"{device['name']}.key")
        assert device["public"] == pair.public
        assert pair.secret not in said
    assert main(["keys", str(testbed)]) == 0
    assert capsys.readouterr().out.count(" kept") == 3
    assert main(["keys", str(testbed), "--renew", "nobody"]) == 1
    assert "has no 'nobody'" in capsys.readouterr().err
