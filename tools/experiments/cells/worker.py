"""Worker of a study: one process that opens each model once and runs jobs in turn."""

from __future__ import annotations

import signal
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from siftmoe.models.tasks.evaluation import load_task
from siftmoe.models.tasks.task import Task
from siftmoe.tools.comparing.trials import VALIDATION_DOCUMENTS
from siftmoe.tools.experiments.cells.emulation import Emulation
from siftmoe.tools.experiments.cells.knobs import Found, ValidationTrials, find_knob, policy_of
from siftmoe.tools.experiments.cells.records import Cell, Outcome

if TYPE_CHECKING:
    from siftmoe.models.tasks.task import GenerationTask

#: Sequences of one prefill: one for a text, so that it meets many channel states; the options of a
#: question together.
_BATCH = {"choice": 8, "piqa": 4, "csqa": 10}


class Work(Struct, frozen=True, kw_only=True):
    """Settings that all cells of a study share.

    Parameters
    ----------
    items : int
        Items of each task for one seed; seed k takes the k-th part of the task.
    validation : str
        Task on which knobs are set.
    validation_items : int
    """

    items: int
    validation: str = "perplexity"
    validation_items: int = VALIDATION_DOCUMENTS


class Job(Struct, frozen=True, kw_only=True):
    """A cell to run with a known knob value, or a knob to set."""

    cell: Cell
    value: float | None = None
    found: Found | None = None
    calibrate: bool = False

    @classmethod
    def of(cls, cell: Cell) -> Job:
        """Make a job that runs a cell at its own knob value."""
        return cls(cell=cell, value=cell.value)


@dataclass(kw_only=True)
class Worker:
    """The open models and tasks of this process."""

    work: Work
    emulations: dict[str, Emulation] = field(default_factory=dict)
    tasks: dict[tuple[str, str, int], Task | GenerationTask] = field(default_factory=dict)

    def do(self, job: Job) -> Outcome:
        """Run a cell on its tasks, or set its knob."""
        return self._calibrate(job.cell) if job.calibrate else self._run(job)

    def _run(self, job: Job) -> Outcome:
        cell = job.cell
        emulation = self._emulation(cell.model)
        policy = policy_of(cell, job.value, unit_j=emulation.unit_j(cell.setting))
        records = tuple(
            emulation.run(
                policy,
                cell.setting,
                self._task(cell.model, name, cell.seed),
                seed=cell.seed,
                batch_size=_BATCH.get(name.split(":")[0], 1),
            )
            for name in cell.tasks
        )
        return Outcome(
            cell=cell,
            policy=str(policy),
            value=job.value,
            records=records,
            **_validated(job.found),
        )

    def _calibrate(self, cell: Cell) -> Outcome:
        emulation = self._emulation(cell.model)
        found: Found = find_knob(
            ValidationTrials(
                emulation=emulation, cell=cell, task=self._validation(cell.model), batch_size=1
            )
        )
        policy = policy_of(cell, found.value, unit_j=emulation.unit_j(cell.setting))
        return Outcome(cell=cell, policy=str(policy), value=found.value, **_validated(found))

    def model_hash(self, model: str) -> str:
        """Hash of a model as this process opens it."""
        return self._emulation(model).bundle.manifest.model_hash

    def _emulation(self, model: str) -> Emulation:
        if model not in self.emulations:
            self.emulations[model] = Emulation.open(model)
        return self.emulations[model]

    def _task(self, model: str, name: str, seed: int) -> Task | GenerationTask:
        key = (model, name, seed)
        if key not in self.tasks:
            emulation = self._emulation(model)
            self.tasks[key] = load_task(
                name,
                tokenizer=emulation.session.tokenizer,
                skip=seed * self.work.items,
                limit=self.work.items,
                context=emulation.bundle.context_length,
            )
        return self.tasks[key]

    def _validation(self, model: str) -> Task:
        name = self.work.validation
        emulation = self._emulation(model)
        task = load_task(
            name,
            tokenizer=emulation.session.tokenizer,
            split="test" if ":" in name else "val",
            limit=self.work.validation_items,
            context=emulation.bundle.context_length,
        )
        if not isinstance(task, Task):
            raise TypeError(f"knobs are set by perplexity; {name!r} has none")
        return task


def _validated(found: Found | None) -> dict[str, Any]:
    """Return the fields of an outcome that say how its knob was set."""
    if found is None:
        return {}
    return {
        "validation_loss": found.loss,
        "validation_error": found.error,
        "validation_upper": found.upper,
        "trials": found.trials,
    }


_worker: Worker | None = None


def start(work: Work) -> None:
    """Prepare a process: one thread, and Ctrl-C is left to the parent."""
    global _worker  # processes of a pool can keep state only in a global
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    one_thread()
    _worker = Worker(work=work)


def one_thread() -> None:
    """Let PyTorch use one core, since jobs run in parallel."""
    import torch

    torch.set_num_threads(1)


def do(job: Job) -> Outcome:
    """Do one job in a process that `start` prepared."""
    if _worker is None:
        raise ValueError("the process was not started")
    return _worker.do(job)
