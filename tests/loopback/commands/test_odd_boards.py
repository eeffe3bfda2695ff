"""Boards that are odd, off or old: each is one line of `status` and `flash`; the others go on."""

from __future__ import annotations

import asyncio
import json
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import pytest
from boards import free_port, running
from bundles import shape_of, write_bundle

from siftmoe.coordinator.config.testbed import load_testbed
from siftmoe.tools.cli import main
from siftmoe.tools.flashing.keys import make_keys
from siftmoe.tools.flashing.rollout import Outcome, Rollout
from siftmoe.tools.flashing.site import Site

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

#: An interpreter that only says how old it is.
OLD_PYTHON = """\
#!/bin/sh
echo "$0 3 {minor}"
exit 1
"""


@dataclass(frozen=True)
class Boards:
    """A testbed whose boards are sshds on this machine, all but one of them out of order."""

    testbed: Path
    config: Path

    def status(self, capsys: pytest.CaptureFixture[str]) -> dict[str, dict[str, Any]]:
        capsys.readouterr()
        arguments = ["status", str(self.testbed), "--ssh-config", str(self.config), "--json"]
        assert main(arguments) == 1
        rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        return {row["agent"]: row for row in rows}


def entry(name: str, ssh: str, address: str | None = None) -> str:
    where = address or f"tcp://127.0.0.1:{free_port()}"
    return f'[[agent]]\nname = "{name}"\naddress = "{where}"\nssh = "{ssh}"\n'


@pytest.fixture(scope="module")
def boards(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Boards]:
    folder = tmp_path_factory.mktemp("odd")
    write_bundle(folder / "bundle", shape_of())
    hosts, text = [], '[model]\nbundle = "bundle"\n'
    text += f'[flash]\nroot = "{folder}/root"\nservice = "supervisor"\n'
    with ExitStack() as stack:
        for minor in (6, 8):
            for name in ("python3", "python3.13", "python3.12", "python3.11", "python3.10"):
                path = folder / f"py3{minor}" / name
                path.parent.mkdir(exist_ok=True)
                path.write_text(OLD_PYTHON.format(minor=minor))
                path.chmod(0o755)
        for name, options in {
            "odd": {"odd": True},
            "plain": {},
            "old6": {"before": folder / "py36"},
            "old8": {"before": folder / "py38"},
        }.items():
            starting = running(folder / name, **options)
            stack.callback(starting.close)
            sshd = next(starting)
            hosts.append(sshd.config.read_text().replace("Host board", f"Host {name}"))
            text += entry(name, name)
        text += entry("off", f"root@127.0.0.1:{free_port()}")
        text += entry("nowhere", "root@no-such-board.invalid", "tcp://no-such-board.invalid:5555")
        text += entry("scope", "root@[fe80::1%nosuch0]:22")
        (folder / "ssh_config").write_text("".join(hosts))
        (folder / "testbed.toml").write_text(text)
        make_keys(folder / "testbed.toml")
        yield Boards(folder / "testbed.toml", folder / "ssh_config")


def test_every_board_is_a_line_of_status(
    boards: Boards, capsys: pytest.CaptureFixture[str]
) -> None:
    found = boards.status(capsys)
    said = {name: row["board"].get("error", "") for name, row in found.items()}
    assert said["odd"] == said["plain"] == ""
    assert found["odd"]["board"]["current"] is None
    for name, version in (("old6", "3.6"), ("old8", "3.8")):
        assert f"python3 is {version}" in said[name]
        assert 'python = "/usr/bin/python3.10" under [flash]' in said[name]
    assert "cannot log in as 'root@127.0.0.1:" in said["off"]
    assert "cannot log in as 'root@no-such-board.invalid'" in said["nowhere"]
    assert found["nowhere"]["state"] == "dead"
    assert "the host cannot be looked up" in found["nowhere"]["reason"]
    assert "cannot log in as 'root@[fe80::1%nosuch0]:22'" in said["scope"]


def test_an_interpreter_can_be_named(boards: Boards, capsys: pytest.CaptureFixture[str]) -> None:
    text = boards.testbed.read_text()
    try:
        boards.testbed.write_text(text.replace("[flash]\n", '[flash]\npython = "no-python"\n'))
        said = boards.status(capsys)["plain"]["board"]["error"]
        assert "has no no-python; the agent needs Python 3.10 to 3.13" in said
        boards.testbed.write_text(text.replace("[flash]\n", '[flash]\npython = "python3"\n'))
        assert "error" not in boards.status(capsys)["plain"]["board"]
    finally:
        boards.testbed.write_text(text)


class Silent:
    """A report that nobody looks at."""

    def phase(self, board: str, text: str) -> None:
        pass

    def expect(self, board: str, num_bytes: int) -> None:
        pass

    def advance(self, board: str, num_bytes: int) -> None:
        pass


def flash(boards: Boards, flashing: Callable[[Rollout, int], Outcome]) -> dict[str, Outcome]:
    """Flash all boards; those that can be logged in to end as ``flashing`` says."""

    class Tried(Rollout):
        async def _change(self, link: Any, index: int, *_: Any) -> Outcome:
            return flashing(self, index)

    site = Site.load(boards.testbed, ssh_config=boards.config)
    indices = site.boards()
    outcomes = asyncio.run(Tried(site=_unbuilt(site), report=Silent()).run(indices))
    return {outcome.board: outcome for outcome in outcomes}


def _unbuilt(site: Site) -> Site:
    """The site, with wheels of no size."""
    wheel = site.folder / "a-1-py3-none-any.whl"
    wheel.write_bytes(b"wheel")

    class Unbuilt(Site):
        def _wheels_for(self, *_: Any, **__: Any) -> list[Path]:
            return [wheel]

    return Unbuilt(
        testbed=load_testbed(site.folder / "testbed.toml"),
        folder=site.folder,
        ssh_config=site.ssh_config,
    )


def test_boards_that_are_off_or_old_do_not_end_the_rollout(boards: Boards) -> None:
    def done(rollout: Rollout, index: int) -> Outcome:
        name = rollout.site.agent(index).name
        return Outcome(board=name, result="flashed", begun=True)

    found = flash(boards, done)
    assert {name: outcome.result for name, outcome in found.items()} == {
        "odd": "flashed",
        "plain": "flashed",
        **dict.fromkeys(("old6", "old8", "off", "nowhere", "scope"), "failed"),
    }
    assert all(outcome.detail for outcome in found.values() if outcome.result == "failed")


def test_a_release_that_fails_does(boards: Boards) -> None:
    def failed(rollout: Rollout, index: int) -> Outcome:
        name = rollout.site.agent(index).name
        return replace(Outcome(board=name, result="failed"), begun=True)

    found = flash(boards, failed)
    assert found.pop("odd").result == "failed"
    assert {outcome.result for outcome in found.values()} == {"skipped"}
