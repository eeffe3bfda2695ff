"""What a worker of a cluster refuses: another siftmoe, another model."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from siftmoe.tools.cli import main
from siftmoe.tools.experiments.cells import cluster
from siftmoe.tools.experiments.cells.cluster import Order, carry_out
from siftmoe.tools.experiments.cells.records import Cell
from siftmoe.tools.experiments.cells.worker import Job, Work, Worker


def order(**changes: str) -> Order:
    given = {"model_hash": "a" * 64, "release": cluster.version("siftmoe"), **changes}
    cell = Cell(model="scratch", curve="topk", template="topk")
    encode = msgspec.json.encode
    return Order(job=encode(Job.of(cell)), work=encode(Work(items=1)), **given)


def test_a_scheduler_imports_nothing_large() -> None:
    """It unpacks what is submitted, and with it imports the file of the function."""
    program = (
        "import sys, siftmoe.tools.experiments.cells.cluster; "
        "print([m for m in ('torch', 'numpy', 'scipy', 'numba') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    assert done.stdout.split() == [b"[]"]


def test_another_release_is_refused() -> None:
    with pytest.raises(ValueError, match=r"a worker has siftmoe .*, the study 9\.9; install that"):
        carry_out(order(release="9.9"))


def test_another_model_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Worker, "model_hash", lambda *_: "b" * 64)
    with pytest.raises(ValueError, match=r"has the hash bbbbbbbbbbbb…, the study's aaaaaaaaaaaa…"):
        carry_out(order())


def test_processes_here_and_a_cluster_are_not_asked_for_together(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    where = ["--scheduler", "tcp://127.0.0.1:1", "--jobs", "2", "--out", str(tmp_path / "out")]
    assert main(["experiment", "latency", "--quick", "--model", "scratch", *where]) == 1
    assert "--jobs are processes of this machine; with --scheduler" in capsys.readouterr().err
