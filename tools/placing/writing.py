"""Writes a placement into a new testbed file."""

from __future__ import annotations

from typing import TYPE_CHECKING

from siftmoe.coordinator.config.placed import with_experts

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from siftmoe.coordinator.config.entries import ExpertId


def check_out(testbed: Path, out: Path, *, force: bool) -> None:
    """Check that a file may be written there, before anything is computed.

    Raises
    ------
    ValueError
        If it exists and is not to be overwritten, or is in another folder, where the paths in the
        file would mean something else.
    """
    if out.resolve().parent != testbed.resolve().parent:
        raise ValueError(
            f"--out {str(out)!r}: paths in a testbed file are relative to it; name a file in "
            f"{str(testbed.resolve().parent)!r}"
        )
    if out.exists() and not force:
        raise ValueError(f"--out {str(out)!r} exists; name another file, or give --force")


def write_testbed(testbed: Path, out: Path, experts: Mapping[str, Sequence[ExpertId]]) -> None:
    """Write the testbed file with these experts.

    Raises
    ------
    ConfigError
        If its agents are not written as ``[[agent]]`` tables.
    """
    text = with_experts(testbed.read_text(encoding="utf-8"), experts)
    out.write_text(text, encoding="utf-8")
