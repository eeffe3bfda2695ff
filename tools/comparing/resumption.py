"""Go on with a run that was killed: its folder says what it was to do, and what of it is done.

A policy whose scores are written is done and kept. One that was interrupted is started again from
its prompt as a new attempt; what its earlier attempts had booked stays in the ledger under a label
of their own, which no figure contains and a remark names.
"""

from __future__ import annotations

import fcntl
import os
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import msgspec

from siftmoe.coordinator.config.radio import RadioEntry
from siftmoe.coordinator.ledger.store import Ledger
from siftmoe.tools.comparing.job import Job
from siftmoe.tools.results.policies import LEDGER_FILE

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator, Mapping
    from pathlib import Path

#: What may be asked of a run anew when it is resumed.
_FREE = ("resume", "json", "metrics_port", "verbose", "parser")
#: What must be as it was, or policies of one table would not be comparable.
_FIXED = ("radio", "model_hash")


def recorded(folder: Path, *, command: str) -> dict[str, Any]:
    """Read what the run in a folder was asked to do.

    Raises
    ------
    LedgerError
        If the folder has no ledger.
    ValueError
        If it is a run of another command.
    """
    with Ledger.open(folder / LEDGER_FILE) as ledger:
        config: dict[str, Any] = ledger.config(min(ledger.labels().values()))
    name = config.get("job", {}).get("name")
    if name != command:
        raise ValueError(
            f"{str(folder)!r} is a folder of `siftmoe {name}`; resume it with that command"
        )
    return config


def job_again(config: Mapping[str, Any], folder: Path, *, as_json: bool) -> Job:
    """Make the recorded job, to be gone on with in its folder."""
    job = msgspec.convert(config["job"] | {"out": None}, Job)
    return replace(job, out=folder, as_json=as_json)


def radio_of(config: Mapping[str, Any]) -> RadioEntry:
    """Return the recorded settings of the air."""
    return msgspec.convert(config["radio"], RadioEntry)


def refuse_other_options(args: argparse.Namespace) -> None:
    """Raise ValueError if a run that is resumed is asked to be another one."""
    usual = vars(args.parser.parse_args(["--resume", str(args.resume)]))
    for name, value in usual.items():
        if name not in _FREE and getattr(args, name) != value:
            raise ValueError(
                f"--resume goes on with what the run was asked to do, so no "
                f"--{name.replace('_', '-')}; start another run for it"
            )


def check_same(before: Mapping[str, Any], now: Mapping[str, Any], *, folder: Path) -> None:
    """Raise ValueError if what a run is resumed on is not what it was started on."""
    for name in _FIXED:
        if msgspec.to_builtins(before[name]) != msgspec.to_builtins(now[name]):
            raise ValueError(
                f"{name} is not what {str(folder)!r} was started with: it was {before[name]}, "
                f"now it is {now[name]}; put it back, or start another run"
            )


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Keep others from writing to a run's folder; a kill lets go of it.

    Raises
    ------
    ValueError
        If another process holds it.
    """
    handle = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ValueError(
                f"the run in {str(folder)!r} is going on in another process; wait for its end"
            ) from error
        yield
    finally:
        os.close(handle)
