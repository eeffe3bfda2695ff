"""Runs a study: knobs first, then cells; each result is stored when it ends."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from siftmoe.coordinator.links.sources import SIMULATED
from siftmoe.tools.bundles import open_with_progress
from siftmoe.tools.experiments.captions import channel_of
from siftmoe.tools.experiments.cells.cluster import cluster_workers, require_cluster
from siftmoe.tools.experiments.cells.knobs import found_in
from siftmoe.tools.experiments.cells.pool import workers
from siftmoe.tools.experiments.cells.store import Store
from siftmoe.tools.experiments.cells.worker import Job, Work
from siftmoe.tools.experiments.studies.asked import (
    with_air,
    with_links,
    with_policies,
    with_uplink,
)
from siftmoe.tools.experiments.studies.catalogue import STUDIES
from siftmoe.tools.experiments.studies.definition import Ask
from siftmoe.tools.interrupts import terminable
from siftmoe.tools.terminal.console import stderr_console
from siftmoe.tools.terminal.progress import progress_bar

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from contextlib import AbstractContextManager

    from siftmoe.tools.experiments.cells.pool import Doer
    from siftmoe.tools.experiments.cells.records import Cell, Outcome

_QUICK_SEEDS, _SEEDS = 2, 5
_QUICK_ITEMS, _ITEMS = 3, 20
_QUICK_VALIDATION = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """Options of ``siftmoe experiment``; None takes the study's default.

    ``air`` has fields of `Setting` that hold in every cell.
    """

    name: str
    models: tuple[str, ...]
    tasks: tuple[str, ...] | None
    seeds: int | None
    items: int | None
    validation: str
    jobs: int | None
    per_token: bool
    quick: bool
    out: Path | None
    policies: tuple[str, ...] = ()
    links: str = SIMULATED
    scheduler: str | None = None
    uplink: str | None = None
    air: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """A finished study and its outcomes."""

    name: str
    folder: Path
    config: dict[str, Any]
    outcomes: tuple[Outcome, ...]


def run_study(options: Options) -> Finished:
    """Run the missing cells of a study.

    Raises
    ------
    ValueError
        If there is no such study or model, the tasks hold too few items for the seeds, or the
        folder holds a study of another configuration.
    """
    if options.scheduler is not None:
        require_cluster()  # before models are opened
    study = STUDIES[options.name]
    work = _work(options)
    ask = _ask(options)
    wanted = _wanted(options, ask)
    hashes = {m: open_with_progress(m).manifest.model_hash for m in options.models}
    config = _config(options, ask, work, hashes) | {"channel": channel_of(wanted)}
    store = Store(options.out or Path("runs") / f"experiment-{options.name}", config)
    cells = [
        msgspec.structs.replace(cell, seed=seed, tasks=ask.tasks)
        for cell in wanted
        for seed in range(ask.seeds)
    ]
    stderr_console().print(f"{study.title}: {len(cells)} cells in {store.folder}")
    # knobs first: one search takes as long as many cells, and so no process waits for it at the end
    free = [cell for cell in cells if cell.loss is None]
    at_loss = [cell for cell in cells if cell.loss is not None]
    with terminable(), _doers(options, work, hashes) as do:
        _work_off("knobs and cells", [*_calibrations(at_loss), *map(Job.of, free)], store, do)
        _work_off("cells at a loss", [_at_loss(cell, store) for cell in at_loss], store, do)
    outcomes = tuple(o for o in (store.get(cell.key()) for cell in cells) if o is not None)
    return Finished(name=options.name, folder=store.folder, config=config, outcomes=outcomes)


def _doers(options: Options, work: Work, hashes: dict[str, str]) -> AbstractContextManager[Doer]:
    """Where cells run: a Dask cluster, or processes of this machine."""
    if options.scheduler is None:
        return workers(options.jobs or os.cpu_count() or 1, work)
    if options.jobs is not None:
        raise ValueError("--jobs are processes of this machine; with --scheduler leave it out")
    return cluster_workers(options.scheduler, work, hashes=hashes)


def _wanted(options: Options, ask: Ask) -> list[Cell]:
    """Cells of the study and of what the user adds to it, without seeds."""
    cells = with_air(STUDIES[options.name].cells(ask), options.air, study=options.name)
    if options.uplink is not None:
        cells = with_uplink(cells, options.uplink)
    cells = with_policies(cells, options.policies)
    return cells if options.links == SIMULATED else with_links(cells, options.links)


def _ask(options: Options) -> Ask:
    default = ("perplexity", "choice") if STUDIES[options.name].choice else ("perplexity",)
    return Ask(
        models=options.models,
        seeds=options.seeds or (_QUICK_SEEDS if options.quick else _SEEDS),
        tasks=options.tasks or default,
        quick=options.quick,
        shared_window=not options.per_token,
    )


def _work(options: Options) -> Work:
    items = options.items or (_QUICK_ITEMS if options.quick else _ITEMS)
    if options.quick:
        return Work(items=items, validation=options.validation, validation_items=_QUICK_VALIDATION)
    return Work(items=items, validation=options.validation)


def _config(options: Options, ask: Ask, work: Work, hashes: dict[str, str]) -> dict[str, Any]:
    """Return everything that determines the results."""
    added = {
        **({"policies": list(options.policies)} if options.policies else {}),
        **({"links": options.links} if options.links != SIMULATED else {}),
        **({"uplink": options.uplink} if options.uplink is not None else {}),
        **({"air": dict(options.air)} if options.air else {}),
    }
    return {
        **added,
        "study": options.name,
        "siftmoe": version("siftmoe"),
        **asdict(ask),
        **msgspec.structs.asdict(work),
        "model_hashes": hashes,
    }


def _calibrations(cells: Sequence[Cell]) -> list[Job]:
    """Return one search for all cells that differ in their seed alone."""
    wanted = {c.key(): c for c in (cell.calibration() for cell in cells) if c is not None}
    return [Job(cell=cell, calibrate=True) for cell in wanted.values()]


def _at_loss(cell: Cell, store: Store) -> Job:
    calibration = cell.calibration()
    outcome = None if calibration is None else store.get(calibration.key())
    if outcome is None:
        raise ValueError(f"the knob of {cell.template!r} was not set")
    return Job(cell=cell, value=outcome.value, found=found_in(outcome))


def _work_off(title: str, jobs: Sequence[Job], store: Store, do: Doer) -> None:
    """Run the jobs that are not done yet, and store each when it ends."""
    todo = [job for job in jobs if store.get(job.cell.key()) is None]
    if not jobs:
        return
    with progress_bar(title, len(jobs)) as advance:
        advance(len(jobs) - len(todo))
        for outcome in do(todo):
            store.add(outcome)
            advance(1)
