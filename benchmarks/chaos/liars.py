"""Agents that lie beside the true ones of `benchmarks.chaos`, on threads of a process of their own.

python -m benchmarks.chaos.liars BUNDLE EXPERTS MODE...

It serves one agent per mode (`tests.liars`), prints their addresses in one line, and ends with its
standard input. EXPERTS are those of every layer, by agent: "0,1;1,2".
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
from typing import TYPE_CHECKING

from siftmoe.models.bundle.manifest import Manifest
from tests.bundles import weights_of
from tests.liars import Liar

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path


@contextlib.contextmanager
def liars(bundle: Path, modes: Sequence[str], *, num_experts: int) -> Iterator[list[str]]:
    """Start them, number n with experts n and n + 1, as true agents have; yields addresses."""
    if not modes:
        yield []
        return
    experts = ";".join(f"{n % num_experts},{(n + 1) % num_experts}" for n in range(len(modes)))
    command = [sys.executable, "-m", "benchmarks.chaos.liars", str(bundle), experts, *modes]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        if process.stdout is None or process.stdin is None:
            raise RuntimeError("the liars have no pipes")
        try:
            yield process.stdout.readline().split()
            if process.poll() is not None:
                raise RuntimeError(f"the liars ended with status {process.returncode}")
        finally:
            process.stdin.close()


def main(bundle: str, experts: str, *modes: str) -> None:
    """Serve liars until standard input ends."""
    manifest = Manifest.load(bundle)
    layers = range(manifest.shape.num_layers)
    served = [
        Liar(
            manifest,
            [(layer, int(e)) for layer in layers for e in mine.split(",")],
            mode,
            weights=weights_of,
            honest=0,
        )
        for mine, mode in zip(experts.split(";"), modes, strict=True)
    ]
    print(*[liar.address for liar in served], flush=True)
    sys.stdin.read()
    for liar in served:
        liar.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
