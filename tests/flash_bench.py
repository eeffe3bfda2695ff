"""A board for tests of flashing: a testbed, an sshd, a radio, and what its agent said."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from boards import PATIENCE_S, Sshd, free_port, running
from bundles import shape_of, write_bundle

from siftmoe.coordinator.config.testbed import load_testbed
from siftmoe.radio.emulator.launch import EmulatedPlutos
from siftmoe.tools.cli import main
from siftmoe.tools.flashing.keys import make_keys
from siftmoe.tools.flashing.rollout import Outcome, Rollout
from siftmoe.tools.flashing.site import Site

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


TESTBED = """\
[model]
bundle = "bundle"
[flash]
root = "{root}"
service = "supervisor"
start_s = 60
packing = "{packing}"
[[agent]]
name = "one"
address = "tcp://127.0.0.1:{port}"
experts = "{experts}"
radio = "{radio}"
ssh = "board"
[[agent]]
name = "two"
address = "tcp://127.0.0.1:{other}"
"""


class Watch:
    """A report of a rollout that records phases and runs a test's steps in them."""

    def __init__(self, **steps: Callable[[], None]) -> None:
        self.steps, self.sent, self.phases = steps, 0, []

    def phase(self, board: str, text: str) -> None:
        self.phases.append(text)
        self._step(text.partition(",")[0])

    def expect(self, board: str, num_bytes: int) -> None:
        pass

    def advance(self, board: str, num_bytes: int) -> None:
        self.sent += num_bytes
        self._step("sent")

    def _step(self, name: str) -> None:
        if name in self.steps:
            self.steps[name]()


class Bench:
    def __init__(self, folder: Path, sshd: Sshd, plutos: EmulatedPlutos) -> None:
        self.plutos = plutos
        self.sshd, self.folder, self.root = sshd, folder, folder / "root"
        self.testbed = folder / "testbed.toml"
        self.port, self.other = free_port(), free_port()
        self.write()
        make_keys(self.testbed)
        self.built = Site.load(self.testbed, ssh_config=sshd.config)

    def write(
        self, *, experts: str = "*:0", port: int | None = None, packing: str = "numpy"
    ) -> None:
        self.changed = True
        self.testbed.write_text(
            TESTBED.format(
                root=self.root,
                experts=experts,
                packing=packing,
                port=port or self.port,
                other=self.other,
                radio=self.plutos.uris[0],
            )
        )
        if (self.folder / "keys").exists():
            make_keys(self.testbed)

    def site(self) -> Site:
        """As the testbed is now; wheels are chosen and built once."""
        return replace(self.built, testbed=load_testbed(self.testbed))

    def flash(self, watch: Watch | None = None, **options: Any) -> Outcome:
        rollout = Rollout(site=self.site(), report=watch or Watch(), **options)
        (outcome,) = asyncio.run(rollout.run([0]))
        return outcome

    def command(self, name: str, *arguments: str) -> int:
        config = ["--ssh-config", str(self.sshd.config)]
        return main([name, str(self.testbed), *arguments, *config])

    def serving(self, capsys: Any) -> str:
        """Release that the agent says it is; it must be the board's current one, and ready."""
        capsys.readouterr()
        status = self.command("status", "one", "--json")
        found = json.loads(capsys.readouterr().out)
        assert status == 0, found
        assert found["board"]["service"]["state"] == "ready"
        assert found["board"]["current"] == found["release"]
        return str(found["release"])


def benches(folder: Path) -> Iterator[Bench]:
    """Yield a bench while its sshd and its emulated radio run."""
    write_bundle(folder / "bundle", shape_of())
    with EmulatedPlutos(1) as plutos:
        for sshd in running(folder / "ssh", odd=True):
            bench = Bench(folder, sshd, plutos)
            yield bench
            if bench.root.exists():
                bench.command("unflash", "one")


def agent_said(bench: Bench) -> dict[str, Any]:
    log = (bench.root / "run" / "agent.log").read_text().splitlines()
    return dict(json.loads([line for line in log if line.startswith("{")][-1]))


def agent_process(bench: Bench) -> int:
    return int(agent_said(bench)["pid"])


def kill_agent(bench: Bench) -> None:
    """Kill the agent and wait for its successor."""
    first = agent_process(bench)
    os.kill(first, signal.SIGKILL)
    end_s = time.monotonic() + PATIENCE_S
    while agent_process(bench) == first:
        assert time.monotonic() < end_s
        time.sleep(0.05)
