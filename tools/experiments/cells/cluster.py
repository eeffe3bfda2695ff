"""Runs jobs on an existing Dask cluster, with the outcomes that processes of this machine give.

The cluster is somebody else's: it is neither started nor stopped, and only the jobs of this study
are cancelled. A job whose worker is lost runs again on another one.

The scheduler unpacks what is submitted, and so imports this file: it imports nothing large, and
jobs travel as bytes.
"""

from __future__ import annotations

import threading
from contextlib import contextmanager, suppress
from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Final

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from siftmoe.tools.experiments.cells.pool import Doer
    from siftmoe.tools.experiments.cells.records import Outcome
    from siftmoe.tools.experiments.cells.worker import Job, Work, Worker

#: Time for the scheduler to answer, and for the first worker to be there.
_CONNECT_S: Final = 20.0

#: One job at a time in a process, however many threads Dask gives it: a model is attached to one
#: coordinator.
_turn = threading.Lock()
_workers: dict[bytes, Worker] = {}


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """A job with all that a process elsewhere must know of its study.

    Parameters
    ----------
    job, work : bytes
        A `Job` and the study's `Work`, JSON.
    model_hash : str
        Of the cell's model on the machine of the user.
    release : str
        Version of siftmoe there.
    """

    job: bytes
    work: bytes
    model_hash: str
    release: str


def require_cluster() -> None:
    """Raise ImportError if the extra of clusters is missing."""
    import_module("distributed")


@contextmanager
def cluster_workers(address: str, work: Work, *, hashes: Mapping[str, str]) -> Iterator[Doer]:
    """Connect to a scheduler.

    Parameters
    ----------
    address : str
        ``tcp://HOST:PORT`` of a Dask scheduler.
    work : Work
    hashes : mapping
        Hash by model; a worker whose bundle is another one refuses.

    Yields
    ------
    callable
        ``do(sequence of Job)``, an iterator over outcomes in the order they end.

    Raises
    ------
    ValueError
        If there is no scheduler or no worker in time, a worker has another siftmoe or another
        model, or a job loses its worker again and again.
    """
    from distributed import Client

    try:
        client = Client(address, timeout=_CONNECT_S, set_as_default=False)
    except (OSError, ValueError) as error:
        raise ValueError(
            f"--scheduler {address}: no Dask scheduler answers there ({error}); start one with "
            f"'dask scheduler', or leave the option out"
        ) from error
    with client:
        _wait_for_a_worker(client, address)
        yield lambda todo: _as_they_end(client, _orders(todo, work, hashes))


def _orders(todo: Sequence[Job], work: Work, hashes: Mapping[str, str]) -> list[Order]:
    encode, release = msgspec.json.encode, version("siftmoe")
    return [
        Order(
            job=encode(job),
            work=encode(work),
            model_hash=hashes[job.cell.model],
            release=release,
        )
        for job in todo
    ]


def _wait_for_a_worker(client: Any, address: str) -> None:
    try:
        client.wait_for_workers(1, timeout=_CONNECT_S)
    except TimeoutError as error:
        raise ValueError(
            f"--scheduler {address} has no workers; start some with 'dask worker {address} "
            f"--nthreads 1' where siftmoe is installed"
        ) from error


def _as_they_end(client: Any, orders: Sequence[Order]) -> Iterator[Outcome]:
    """Submit all and yield outcomes; whatever ends this cancels what is left."""
    from distributed import CancelledError, KilledWorker, as_completed

    futures = [client.submit(carry_out, order, pure=False) for order in orders]
    try:
        for future in as_completed(futures, loop=client.loop):
            yield future.result()
    except KilledWorker as error:
        raise ValueError(
            f"a cell lost its worker {error.allowed_failures + 1} times, at last "
            f"{error.last_worker}; see that worker's log, and ask again to go on"
        ) from error
    except CancelledError as error:
        raise ValueError(
            "the Dask scheduler is gone or has cancelled the cells; ask again to go on"
        ) from error
    finally:
        left = [future for future in futures if not future.done()]
        if left:
            with suppress(OSError, TimeoutError):
                client.cancel(left, force=True)


def carry_out(order: Order) -> Outcome:
    """Do a job in a worker's process, which keeps its models open.

    Raises
    ------
    ValueError
        If siftmoe or the model here is not that of the study.
    """
    here = version("siftmoe")
    if here != order.release:
        raise ValueError(f"a worker has siftmoe {here}, the study {order.release}; install that")
    from siftmoe.tools.experiments.cells import worker

    job = msgspec.json.decode(order.job, type=worker.Job)
    with _turn:
        if order.work not in _workers:
            worker.one_thread()
            work = msgspec.json.decode(order.work, type=worker.Work)
            _workers[order.work] = worker.Worker(work=work)
        doing = _workers[order.work]
        found = doing.model_hash(job.cell.model)
        if found != order.model_hash:
            raise ValueError(
                f"model {job.cell.model!r} of a worker has the hash {found[:12]}…, the study's "
                f"{order.model_hash[:12]}…; copy the bundle there"
            )
        return doing.do(job)
