"""Continues a run that was killed, from the configuration and the scores in its folder.

A policy with written scores is finished and kept. An interrupted policy is started again from its
prompt as a new attempt; rows of its earlier attempts stay in the ledger under their own label. No
figure contains them, and a remark names them.
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

#: Options that may change when a run is resumed.
_FREE = ("resume", "json", "wide", "metrics_port", "verbose", "parser")
#: Configuration that must be unchanged, so that the policies of one table are comparable.
_FIXED = ("radio", "model_hash")


def recorded(folder: Path, *, command: str) -> dict[str, Any]:
    """Read the configuration of the run in a folder.

    Raises
    ------
    LedgerError
        If the folder has no ledger.
    ValueError
        If another command wrote the folder.
    """
    with Ledger.open(folder / LEDGER_FILE) as ledger:
        config: dict[str, Any] = ledger.config(min(ledger.labels().values()))
    name = config.get("job", {}).get("name")
    if name != command:
        raise ValueError(
            f"{str(folder)!r} is a folder of `siftmoe {name}`; resume it with that command"
        )
    return config


def job_again(config: Mapping[str, Any], folder: Path, *, as_json: bool, wide: bool = False) -> Job:
    """Make the recorded job, with the run's folder as its output."""
    job = msgspec.convert(config["job"] | {"out": None}, Job)
    return replace(job, out=folder, as_json=as_json, wide=wide)


def radio_of(config: Mapping[str, Any]) -> RadioEntry:
    """Return the recorded settings of the air."""
    return msgspec.convert(config["radio"], RadioEntry)


def refuse_other_options(args: argparse.Namespace) -> None:
    """Raise ValueError if options beside --resume would change the run."""
    usual = vars(args.parser.parse_args(["--resume", str(args.resume)]))
    for name, value in usual.items():
        if name not in _FREE and getattr(args, name) != value:
            raise ValueError(
                f"--resume goes on with what the run was asked to do, so no "
                f"--{name.replace('_', '-')}; start another run for it"
            )


def check_same(before: Mapping[str, Any], now: Mapping[str, Any], *, folder: Path) -> None:
    """Raise ValueError if the configuration differs from the one that the run was started with."""
    for name in _FIXED:
        if msgspec.to_builtins(before[name]) != msgspec.to_builtins(now[name]):
            raise ValueError(
                f"{name} is not what {str(folder)!r} was started with: it was {before[name]}, "
                f"now it is {now[name]}; put it back, or start another run"
            )


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Lock a run's folder for this process; a kill releases the lock.

    Raises
    ------
    ValueError
        If another process holds the lock.
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
