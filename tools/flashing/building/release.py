"""Builds the release of one board: files by content, the agent's command line, signed manifest.

Equal content has an equal manifest, and a release is named by its manifest's hash. So an unchanged
release is not sent again, and the name on the board identifies its content.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Final

from siftmoe.agent.serving.address import is_loopback
from siftmoe.models.bundle.manifest import MANIFEST_NAME, Manifest, file_sha256
from siftmoe.tools.flashing.building.wheels import requirements
from siftmoe.tools.flashing.errors import ReleaseError
from siftmoe.tools.flashing.keys import ALLOWED_FILE, key_file
from siftmoe.tools.flashing.onboard.releases import PROGRAM

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from siftmoe.coordinator.config.entries import AgentEntry, ExpertId
    from siftmoe.tools.flashing.building.counters import Counters
    from siftmoe.tools.flashing.building.signing import Signer
    from siftmoe.tools.flashing.building.wheels import Target

FORMAT: Final = 1
_PRIVATE: Final = 0o600
_PUBLIC: Final = 0o644


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """A file of a release: its source, hash, size and mode."""

    source: Path | bytes
    sha256: str
    num_bytes: int
    mode: int = _PUBLIC

    @classmethod
    def of_bytes(cls, content: bytes) -> Piece:
        """Make a piece from bytes in memory."""
        digest = hashlib.sha256(content).hexdigest()
        return cls(source=content, sha256=digest, num_bytes=len(content))

    @classmethod
    def of_file(cls, path: Path, *, mode: int = _PUBLIC) -> Piece:
        """Make a piece from a file."""
        size = path.stat().st_size
        return cls(source=path, sha256=file_sha256(path), num_bytes=size, mode=mode)


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """A board's release, ready to be pushed."""

    name: str
    content: str
    counter: int
    manifest: bytes
    signature: bytes
    pieces: Mapping[str, Piece]

    @property
    def blobs(self) -> dict[str, Piece]:
        """Return the pieces by hash, each content once."""
        return {piece.sha256: piece for piece in self.pieces.values()}


def build_release(
    agent: AgentEntry,
    *,
    experts: Sequence[ExpertId],
    selection: str,
    packing: str,
    bundle: Manifest,
    target: Target,
    wheels: Sequence[Path],
    keys: Path | None,
    program: bytes,
    signer: Signer,
    counters: Counters,
) -> Release:
    """Build a board's release.

    Parameters
    ----------
    agent : AgentEntry
    experts : sequence of (layer, expert)
        Experts that it hosts; nothing else of the model goes to the board.
    selection : str
        The same experts as the agent's option takes them.
    packing : "compiled" or "numpy"
        How the agent packs vectors.
    bundle : Manifest
    target : Target
        The board's Python and machine.
    wheels : sequence of Path
        All wheels of the agent, including siftmoe's own.
    keys : Path or None
        The testbed's folder of keys; None for an agent without a key.
    program : bytes
        The program that runs on the board.
    signer : Signer
    counters : Counters
        Number the board's releases.

    Raises
    ------
    BundleCorrupt
        If a file of the bundle is not what its manifest says.
    KeyUnusable, OSError
        If the agent's keys cannot be read.
    """
    pieces = {f"wheels/{wheel.name}": Piece.of_file(wheel) for wheel in wheels}
    pieces["requirements.txt"] = Piece.of_bytes(requirements(wheels).encode())
    pieces[PROGRAM] = Piece.of_bytes(program)
    pieces |= _bundle_pieces(bundle, experts)
    if keys is not None:
        pieces["keys/agent.key"] = Piece.of_file(key_file(keys, agent.name), mode=_PRIVATE)
        pieces["keys/allowed"] = Piece.of_file(keys / ALLOWED_FILE)
    document = {
        "format": FORMAT,
        "agent": agent.name,
        "version": version("siftmoe"),
        "target": target.tag,
        "model_hash": bundle.model_hash,
        "arguments": agent_arguments(
            agent, selection=selection, packing=packing, encrypted=keys is not None
        ),
        "files": {
            name: {"sha256": piece.sha256, "num_bytes": piece.num_bytes, "mode": piece.mode}
            for name, piece in pieces.items()
        },
    }
    content = hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()
    counter = counters.number(agent.name, content)
    manifest = json.dumps(document | {"counter": counter}, sort_keys=True, indent=1).encode()
    return Release(
        content=content,
        counter=counter,
        name=hashlib.sha256(manifest).hexdigest()[:16],
        manifest=manifest,
        signature=signer.sign(manifest),
        pieces=pieces,
    )


def agent_arguments(
    agent: AgentEntry, *, selection: str, packing: str, encrypted: bool
) -> list[str]:
    """Return the agent's arguments on its board; ``{release}`` is the release's folder there."""
    arguments = [
        "--bundle={release}/bundle",
        f"--bind={bind_address(agent.address)}",
        f"--experts={selection}",
        f"--name={agent.name}",
        # The agent still serves without its compiled packing code: it then packs with numpy.
        f"--packing={'auto' if packing == 'compiled' else packing}",
        "--json",
    ]
    if agent.radio is not None:
        arguments.append(f"--radio={agent.radio}")
    if encrypted:
        arguments += ["--key={release}/keys/agent.key", "--allow={release}/keys/allowed"]
    elif not is_local(bind_address(agent.address)):
        arguments.append("--insecure")
    return arguments


def bind_address(address: str) -> str:
    """Return the address that an agent binds: all interfaces, or loopback for a local address.

    A board's own address may differ from the one in the testbed (names, NAT).
    """
    if is_local(address):
        return address
    host, _, port = address.removeprefix("tcp://").rpartition(":")
    return f"tcp://[::]:{port}" if host.startswith("[") else f"tcp://0.0.0.0:{port}"


def is_local(address: str) -> bool:
    """Whether an address can be reached only from its own machine."""
    transport, _, rest = address.partition("://")
    return transport != "tcp" or is_loopback(rest.rpartition(":")[0])


def _bundle_pieces(bundle: Manifest, experts: Sequence[ExpertId]) -> dict[str, Piece]:
    entries = [bundle.expert_file(layer, expert) for layer, expert in experts]
    entries += [bundle.golden_file(layer) for layer in sorted({layer for layer, _ in experts})]
    if not entries:
        raise ReleaseError("a board without experts has nothing to serve")
    pieces = {f"bundle/{MANIFEST_NAME}": Piece.of_file(bundle.root / MANIFEST_NAME)}
    for entry in entries:
        path = bundle.verify_file(entry)
        piece = Piece(source=path, sha256=entry.sha256, num_bytes=entry.num_bytes)
        pieces[f"bundle/{entry.name}"] = piece
    return pieces
