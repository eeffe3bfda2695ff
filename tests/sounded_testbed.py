"""A testbed of running agents and emulated Plutos, and ``siftmoe run`` on it."""

from __future__ import annotations

import io
import json
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from siftmoe.coordinator.ledger.store import Ledger
from siftmoe.tools.cli import main

if TYPE_CHECKING:
    from pathlib import Path

    from siftmoe.agent.process.launch import LaunchedAgent
    from siftmoe.radio.emulator.launch import EmulatedPlutos

AGENTS = 4
COHERENCE_S = 1.0


@dataclass(frozen=True)
class Testbed:
    """A running testbed: agents 0 and 1 host the same experts, and so do 2 and 3."""

    __test__ = False

    plutos: EmulatedPlutos
    agents: list[LaunchedAgent]
    bundle: Path
    folder: Path

    def file(self, name: str = "testbed", *, uri: str | None = None, **sounding: Any) -> Path:
        entries = "".join(
            f'[[agent]]\nname = "a{n}"\naddress = "{agent.endpoint}"\nexperts = "{experts_of(n)}"\n'
            for n, agent in enumerate(self.agents)
        )
        more = "".join(f"{key} = {json.dumps(value)}\n" for key, value in sounding.items())
        path = self.folder / f"{name}.toml"
        path.write_text(
            f'[model]\nbundle = "{self.bundle}"\n'
            f'[policy]\nname = "siftmoe"\noptions = {{ tolerance = 0.3 }}\n'
            f"[radio]\ncoherence_time_s = {COHERENCE_S}\ndeadline_s = 0.01\n"
            f'[sounding]\nuri = "{uri or self.plutos.uris[0]}"\n{more}{entries}'
        )
        return path

    def set_gains(self, *gains_db: float) -> None:
        for n, gain_db in enumerate(gains_db):
            self.plutos.set_gain("pluto-0", f"pluto-{n + 1}", gain_db)

    def true_gains(self) -> np.ndarray:
        return np.array([self.plutos.gain("pluto-0", f"pluto-{n + 1}") for n in range(AGENTS)])


def experts_of(agent: int) -> str:
    return "*:0-1" if agent < 2 else "*:2-3"


def command(*arguments: str) -> tuple[int, str, str]:
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        status = main(["run", *arguments])
    return status, out.getvalue(), err.getvalue()


def rows(folder: Path, kind: type) -> list[Any]:
    with Ledger.open(folder / "ledger.sqlite") as ledger:
        return [row for run in ledger.labels().values() for row in ledger.rows(kind, run=run)]
