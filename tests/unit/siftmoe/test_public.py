"""What users may import, and what that loads."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import distribution
from pathlib import Path

import pytest

import siftmoe

HEAVY = {"torch", "numpy", "transformers", "onnxruntime", "zmq", "rich", "matplotlib"}


def loaded_by(code: str) -> set[str]:
    """Return the modules that a new interpreter has after some code."""
    run = subprocess.run(
        [sys.executable, "-c", f"{code}\nimport sys\nprint(*sys.modules)"],
        capture_output=True,
        text=True,
        check=True,
    )
    return set(run.stdout.split())


def test_the_package_itself_loads_nothing_heavy() -> None:
    assert not loaded_by("import siftmoe; siftmoe.__version__; dir(siftmoe)") & HEAVY


def test_a_policy_can_be_written_without_torch() -> None:
    code = "from siftmoe import Policy, SelectionPlan, SelectionProblem, plan_keeping"
    assert not loaded_by(code) & {"torch", "transformers", "onnxruntime"}


def test_every_public_name_is_there_and_documented() -> None:
    for name in siftmoe.__all__:
        assert getattr(siftmoe, name) is not None
        assert name == "__version__" or getattr(siftmoe, name).__doc__
    assert set(siftmoe.__all__) <= set(dir(siftmoe))


def test_a_wrong_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'lokal'"):
        siftmoe.lokal  # noqa: B018


def test_an_editable_install_is_a_path_that_editors_follow() -> None:
    """Type checkers read folders in .pth files; they run no import hooks."""
    found = distribution("siftmoe")
    paths = [found.locate_file(file) for file in found.files or () if file.suffix == ".pth"]
    for path in paths:
        folder = Path(Path(str(path)).read_text(encoding="utf-8").strip())
        assert (folder / "siftmoe" / "py.typed").is_file()
        assert (folder / "siftmoe" / "coordinator" / "__init__.py").is_file()
    assert paths
