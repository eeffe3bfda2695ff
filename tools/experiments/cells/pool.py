"""Runs jobs in parallel processes; outcomes arrive as jobs end, and an interrupt ends all."""

from __future__ import annotations

import multiprocessing
import os
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from typing import TYPE_CHECKING

from siftmoe.tools.experiments.cells import worker

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from siftmoe.tools.experiments.cells.records import Outcome
    from siftmoe.tools.experiments.cells.worker import Job, Work

    Doer = Callable[[Sequence[Job]], Iterator[Outcome]]

#: Thread limits; numeric libraries read them once, when a process imports them.
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


@contextmanager
def workers(jobs: int, work: Work) -> Iterator[Doer]:
    """Start worker processes.

    Parameters
    ----------
    jobs : int
        Number of processes; 1 runs all jobs in this process.
    work : Work

    Yields
    ------
    callable
        ``do(sequence of Job)``, an iterator over outcomes in the order they end.
    """
    if jobs == 1:
        here = worker.Worker(work=work)
        yield lambda todo: map(here.do, todo)
        return
    with _single_threaded():
        pool = ProcessPoolExecutor(
            jobs,
            mp_context=multiprocessing.get_context("spawn"),
            initializer=worker.start,
            initargs=(work,),
        )
        before = set(multiprocessing.active_children())
        try:
            yield lambda todo: _as_they_end(pool, todo)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            for child in set(multiprocessing.active_children()) - before:
                child.terminate()
            raise
        pool.shutdown()


def _as_they_end(pool: ProcessPoolExecutor, todo: Sequence[Job]) -> Iterator[Outcome]:
    futures = [pool.submit(worker.do, job) for job in todo]
    for future in as_completed(futures):
        yield future.result()


@contextmanager
def _single_threaded() -> Iterator[None]:
    """Limit every new process to one core, since the jobs run in parallel."""
    before = {name: os.environ.get(name) for name in _THREADS}
    os.environ.update(dict.fromkeys(_THREADS, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
