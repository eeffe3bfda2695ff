"""What `make` installs of PyTorch: the CPU's build where there is no GPU, and it says how large."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import siftmoe.models.errors

ROOT = Path(siftmoe.models.errors.__file__).resolve().parents[1]
SCRIPT = ROOT / ".ci/torch_build.py"


@pytest.fixture
def fake(tmp_path):
    """A Python that records its calls and refuses those that contain a word of FAIL."""
    path = tmp_path / "python"
    path.write_text(
        f'#!/bin/sh\necho "$@" >> {tmp_path}/calls\n'
        'for word in $FAIL; do case "$*" in *$word*) echo nothing >&2; exit 1;; esac; done\n'
    )
    path.chmod(0o755)

    def run(**environment: str) -> tuple[list[str], str]:
        (tmp_path / "calls").write_text("")
        done = subprocess.run(
            [sys.executable, str(SCRIPT), str(path)],
            env={**os.environ, **environment},
            capture_output=True,
            text=True,
            check=True,
        )
        calls = (tmp_path / "calls").read_text().splitlines()
        return [call for call in calls if "install" in call], done.stderr

    return run


def test_without_a_gpu_the_cpu_s_build_is_taken_from_where_pip_looks(fake):
    calls, said = fake(TORCH="cpu")
    assert len(calls) == 1
    assert "+cpu" in calls[0]
    assert f"-c {ROOT / 'constraints.txt'}" in calls[0]
    assert "about 0.7 GB to download, 2 minutes" in said


def test_where_pip_finds_none_uv_takes_it_from_pytorch_s_index(fake):
    calls, said = fake(TORCH="cpu", FAIL="+cpu")
    assert "--torch-backend=cpu" in calls[-1]
    assert "6 GB" not in said


def test_where_there_is_none_the_size_of_the_other_is_said_with_the_way_out(fake):
    calls, said = fake(TORCH="cpu", FAIL="+cpu --torch-backend")
    assert len(calls) == 3
    assert "PyPI's is taken: about 6 GB" in said
    assert "PIP_EXTRA_INDEX_URL" in said


def test_with_a_gpu_nothing_is_chosen_for_the_user(fake):
    calls, said = fake(TORCH="cuda")
    assert not calls
    assert "for the GPU: about 6 GB" in said


def test_an_unknown_build_is_refused(fake):
    with pytest.raises(subprocess.CalledProcessError):
        fake(TORCH="rocm")


def test_make_chooses_the_build_before_it_installs():
    done = subprocess.run(
        ["make", "-n", "-B", "demo"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    build, install = done.stdout.index(".ci/torch_build.py"), done.stdout.index("-e '.[")
    assert build < install


def test_no_registry_s_host_stands_in_the_script():
    assert "://" not in SCRIPT.read_text(encoding="utf-8")
