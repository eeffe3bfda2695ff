"""A testbed for flashing: its boards, and everything that their releases are made of."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from siftmoe.coordinator.client.security import ClientSecurity
from siftmoe.coordinator.config.testbed import load_testbed
from siftmoe.coordinator.errors import ConfigError
from siftmoe.coordinator.fleet.placement import place
from siftmoe.models.bundle.manifest import Manifest
from siftmoe.tools.flashing.building.counters import Counters
from siftmoe.tools.flashing.building.program import board_program
from siftmoe.tools.flashing.building.release import build_release, is_local
from siftmoe.tools.flashing.building.signing import Signer
from siftmoe.tools.flashing.building.wheels import own_wheel, wheelhouse

if TYPE_CHECKING:
    from collections.abc import Sequence

    from siftmoe.coordinator.config.entries import AgentEntry, Testbed
    from siftmoe.coordinator.fleet.placement import Placement
    from siftmoe.tools.flashing.building.release import Release
    from siftmoe.tools.flashing.building.wheels import Target

#: Folder next to the testbed: lock files, which are kept with it, and downloads, which are not.
LOCKS = "wheels"


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """A testbed and everything that its releases are made of.

    Parameters
    ----------
    testbed : Testbed
    folder : Path
        Where the testbed file is.
    ssh_config : Path or None
        OpenSSH configuration instead of the user's own.
    wheels : Path or None
        Folder of wheels beside those of the index.
    """

    testbed: Testbed
    folder: Path
    ssh_config: Path | None = None
    wheels: Path | None = None
    program: bytes = field(default_factory=board_program, repr=False)
    _building: threading.Lock = field(default_factory=threading.Lock, repr=False)
    _wheels: dict[str, list[Path]] = field(default_factory=dict, repr=False)

    @classmethod
    def load(
        cls, path: Path, *, ssh_config: Path | None = None, wheels: Path | None = None
    ) -> Site:
        """Read a testbed file.

        Raises
        ------
        ConfigError
            If it is wrong.
        """
        return cls(
            testbed=load_testbed(path),
            folder=path.parent,
            ssh_config=ssh_config,
            wheels=wheels,
        )

    def boards(self, names: Sequence[str] = ()) -> list[int]:
        """Return the indices of agents by name, in the order of the file; without names of all.

        Raises
        ------
        ConfigError
            If there is no such agent, one has no ``ssh`` by which to reach its board, or two have
            the same one.
        """
        known = {agent.name: index for index, agent in enumerate(self.testbed.agent)}
        if unknown := [name for name in names if name not in known]:
            raise ConfigError(f"no agent is called {unknown[0]!r}; there are {', '.join(known)}")
        chosen = [known[name] for name in known if not names or name in names]
        by_host: dict[str, str] = {}
        for index in chosen:
            name = self.agent(index).name
            if (other := by_host.setdefault(self.ssh(index), name)) != name:
                raise ConfigError(
                    f"agents {other!r} and {name!r} have the same board; it takes one"
                )
        return chosen

    def agent(self, index: int) -> AgentEntry:
        """Return an agent's entry."""
        return self.testbed.agent[index]

    def ssh(self, index: int) -> str:
        """Return the SSH address of an agent's board."""
        agent = self.agent(index)
        if agent.ssh is None:
            raise ConfigError(f'agent {agent.name!r} has no ssh = "user@host", so it has no board')
        return agent.ssh

    @property
    def keys(self) -> Path:
        """The folder of keys."""
        return Path(self.testbed.security.keys)

    def bundle(self) -> Manifest:
        """Read the manifest of the testbed's bundle."""
        return Manifest.load(self.testbed.model.bundle)

    def placement(self, bundle: Manifest) -> Placement:
        """Return which agent hosts which experts, as a coordinator will ask for them."""
        shape = bundle.shape
        sizes = {
            (layer, expert): bundle.expert_file(layer, expert).num_bytes
            for layer in range(shape.num_layers)
            for expert in range(shape.num_experts)
        }
        return place(self.testbed.agent, shape, num_bytes=sizes)

    def security(self) -> ClientSecurity:
        """Return the keys that authenticate this workstation to agents."""
        return ClientSecurity.of(self.testbed)

    def signer(self) -> Signer:
        """Return the key that signs this workstation's releases.

        Raises
        ------
        ConfigError
            If there is no folder of keys yet.
        """
        if not self.keys.is_dir():
            raise ConfigError(f"there is no folder {str(self.keys)!r}; run 'siftmoe keys' first")
        return Signer.of(self.keys)

    def release(self, index: int, target: Target) -> Release:
        """Build an agent's release for its board's Python and machine.

        Parameters
        ----------
        index : int
        target : Target

        Raises
        ------
        ReleaseError, ModelError, KeyUnusable
            If something is missing; the message says what to do.
        """
        agent, bundle = self.agent(index), self.bundle()
        placement = self.placement(bundle)
        if agent.key is None and not is_local(agent.address) and not self.testbed.security.insecure:
            raise ConfigError(f"agent {agent.name!r} has no key; run 'siftmoe keys' first")
        with self._building:  # boards with the same target share their wheels
            wheels = self._wheels_for(target, radio=agent.radio is not None)
            return build_release(
                agent,
                experts=placement.experts[index],
                packing=self.testbed.flash.packing,
                selection=placement.selection(index),
                bundle=bundle,
                target=target,
                wheels=wheels,
                keys=None if agent.key is None else self.keys,
                program=self.program,
                signer=self.signer(),
                counters=Counters(self.keys),
            )

    def record(self, index: int, release: Release) -> None:
        """Write down the release that an agent's board serves now."""
        with self._building:
            Counters(self.keys).record(self.agent(index).name, release.content, release.counter)

    def _wheels_for(self, target: Target, *, radio: bool) -> list[Path]:
        compiler = self.testbed.flash.packing == "compiled"
        parts = {"-radio": radio, "-compiler": compiler}
        name = target.tag + "".join(part for part, wanted in parts.items() if wanted)
        if name not in self._wheels:
            cache = self.folder / LOCKS / "cache"
            cache.mkdir(parents=True, exist_ok=True)
            (cache / ".gitignore").write_text("*\n", encoding="utf-8")
            lock = self.folder / LOCKS / f"{name}.lock"
            found = wheelhouse(
                target,
                lock=lock,
                cache=cache,
                radio=radio,
                compiler=compiler,
                onnxruntime=self.testbed.flash.onnxruntime,
                given=self.wheels,
            )
            self._wheels[name] = [*found, self._own(cache)]
        return self._wheels[name]

    def _own(self, cache: Path) -> Path:
        if self.wheels is not None and (given := sorted(self.wheels.glob("siftmoe-*.whl"))):
            return given[-1]
        with TemporaryDirectory(dir=cache) as scratch:
            wheel = own_wheel(Path(scratch))
            return wheel.replace(cache / wheel.name)
