"""``siftmoe experiment --scheduler`` on a real Dask cluster: a scheduler and worker processes."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import psutil
import pytest
from families import build_model

from siftmoe.models.tiny.files import checkpoint_dir, data_path
from siftmoe.tools.cli import main

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

PATIENCE_S = 200.0
PROGRAM = "import sys; from siftmoe.tools.cli import main; sys.exit(main())"
#: Columns that are other in every run.
CLOCKS = {"wall_s"}


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("study")
    build_model("mixtral", vocab_size=2048).save_pretrained(folder / "model")
    for path in checkpoint_dir("upcycled").glob("tokenizer*"):
        shutil.copy(path, folder / "model")
    calibration = ["--calibration", str(data_path("calibration")), "--calibration-tokens", "1024"]
    out = folder / "b"
    assert main(["prepare", str(folder / "model"), "--out", str(out), *calibration]) == 0
    return out


class Cluster:
    """A scheduler and workers of one thread, each a process of its own."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._file = folder / "scheduler.json"
        self.processes: list[subprocess.Popen[bytes]] = []
        self._start("scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard")

    @property
    def address(self) -> str:
        """Address of the scheduler, once it is there."""
        wait_until(lambda: self._file.exists() or self.processes[0].poll() is not None)
        found: str = json.loads(self._file.read_text())["address"]
        return found

    def _start(self, kind: str, *options: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "dask", kind, "--scheduler-file", str(self._file)]
        number = len(self.processes)
        with (self._folder / f"{kind}-{number}.log").open("wb") as log:
            process = subprocess.Popen(
                [*command, *options], stdout=log, stderr=log, cwd=self._folder
            )
        self.processes.append(process)
        return process

    def worker(self) -> subprocess.Popen[bytes]:
        """Start one more worker, without a nanny that would start it again."""
        return self._start("worker", "--nthreads", "1", "--no-nanny", "--no-dashboard")

    def stop(self) -> None:
        for process in reversed(self.processes):
            for child in psutil.Process(process.pid).children(recursive=True):
                child.kill()
            process.kill()
            process.wait(PATIENCE_S)


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    found = Cluster(tmp_path)
    try:
        yield found
    finally:
        found.stop()


def wait_until(condition: Callable[[], Any]) -> Any:
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end:
        if value := condition():
            return value
        time.sleep(0.05)
    raise TimeoutError(f"{condition} stayed false")


def study(bundle: Path, out: Path, *more: str) -> list[str]:
    options = ["--model", str(bundle), "--quick", "--items", "1", "--out", str(out)]
    return ["experiment", "latency", *options, *more]


def start(*arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


def cells_in(out: Path) -> int:
    path = out / "cells.jsonl"
    return path.read_bytes().count(b"\n") if path.exists() else 0


def rows(out: Path) -> list[dict[str, str]]:
    with (out / "results.csv").open(encoding="utf-8") as stream:
        return [
            {name: value for name, value in row.items() if name not in CLOCKS}
            for row in csv.DictReader(stream)
        ]


def test_a_cluster_gives_the_same_table_and_a_lost_worker_loses_no_cell(
    bundle: Path, cluster: Cluster, tmp_path: Path
) -> None:
    assert main(study(bundle, tmp_path / "here", "--jobs", "1")) == 0
    first = cluster.worker()
    process = start(*study(bundle, tmp_path / "there", "--scheduler", cluster.address))
    wait_until(lambda: cells_in(tmp_path / "there") or process.poll() is not None)
    second = cluster.worker()
    first.kill()  # in the middle of a cell
    out, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0, err
    assert second.poll() is None  # the cluster is left as it is
    assert cluster.processes[0].poll() is None
    assert rows(tmp_path / "there") == rows(tmp_path / "here")
    assert "topk" in out


def test_ctrl_c_cancels_what_is_left_and_the_study_goes_on_here(
    bundle: Path, cluster: Cluster, tmp_path: Path
) -> None:
    from distributed import Client

    out = tmp_path / "stopped"
    cluster.worker()
    process = start(*study(bundle, out, "--scheduler", cluster.address))
    wait_until(lambda: cells_in(out) or process.poll() is not None)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 130, err
    assert err.splitlines()[-1] == "interrupted"
    done = cells_in(out)
    with Client(cluster.address, set_as_default=False) as client:
        wait_until(lambda: not any(client.processing().values()))
    assert main(study(bundle, out, "--jobs", "1")) == 0
    assert done < cells_in(out)


def test_what_is_wrong_with_a_cluster_is_one_line(
    bundle: Path, cluster: Cluster, tmp_path: Path
) -> None:
    def refused(address: str) -> str:
        command = study(bundle, tmp_path / "refused", "--scheduler", address)
        program = (
            "import sys; from siftmoe.tools.experiments.cells import cluster; "
            "cluster._CONNECT_S = float(sys.argv.pop(1)); "
            "from siftmoe.tools.cli import main; sys.exit(main())"
        )
        done = subprocess.run(
            [sys.executable, "-c", program, "1.0", *command],
            capture_output=True,
            text=True,
            check=False,
            timeout=PATIENCE_S,
        )
        assert done.returncode == 1
        return done.stderr.splitlines()[-1]

    assert "no Dask scheduler answers there" in refused("tcp://127.0.0.1:1")
    assert "has no workers; start some with 'dask worker" in refused(cluster.address)
