"""Commands after a base install: one line that names the extra, and no traceback."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from bundles import shape_of, write_bundle

from siftmoe.tools.cli import COMMANDS
from siftmoe.tools.installation.missing import way_out

if TYPE_CHECKING:
    from pathlib import Path

#: Runs a command where some packages are not installed.
PROGRAM = """
import sys

_, missing, *arguments = sys.argv

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in missing.split(","):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Missing())
from siftmoe.tools.cli import main
sys.exit(main(arguments))
"""
#: What the extras bring.
EXTRAS = (
    "torch,transformers,tokenizers,safetensors,accelerate,onnx,onnxruntime,scipy,numba,rich,"
    "matplotlib,psutil,adi,iio,asyncssh,prometheus_client,fastapi,uvicorn"
)
COORDINATOR = "pip install 'siftmoe[coordinator]'"
FLEET = "pip install 'siftmoe[fleet]'"


def run(missing: str, *arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", PROGRAM, missing, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("base")
    (folder / "t.toml").write_text(
        '[model]\nbundle = "b"\n[[agent]]\nname = "a"\naddress = "tcp://127.0.0.1:1"\nssh = "x@y"\n'
    )
    (folder / "run").mkdir()
    (folder / "i.json").write_text(json.dumps({"family": "a"}))
    return folder


#: Subcommand -> arguments, and what its one line says; None: it runs on the base install.
CASES: dict[str, tuple[str, str | None]] = {
    "loopback": ("", COORDINATOR),
    "run": ("t.toml", COORDINATOR),
    "serve": ("t.toml", "pip install 'siftmoe[serve]'"),
    "prepare": ("model --out b", "is not a folder"),
    "profile": ("show upcycled", COORDINATOR),
    "place": ("t.toml", COORDINATOR),
    "solve": ("i.json", COORDINATOR),
    "experiment": ("quality", COORDINATOR),
    "ledger": ("run", "does not exist"),
    "report": ("run", COORDINATOR),
    "agent": ("--bundle b", "pip install 'siftmoe[cpu]'"),
    "radio": ("sound --tx ip:127.0.9.9:1 --rx ip:127.0.9.8:1", "radio 'ip:127.0.9.9:1'"),
    "status": ("t.toml", FLEET),
    "flash": ("t.toml", FLEET),
    "rollback": ("t.toml a", FLEET),
    "logs": ("t.toml a", FLEET),
    "unflash": ("t.toml a", FLEET),
    "keys": ("t.toml", None),
    "doctor": ("--json", None),
}


def test_every_command_has_a_case() -> None:
    assert set(CASES) == set(COMMANDS)


@pytest.mark.parametrize("name", CASES)
def test_a_base_install_names_the_extra(folder: Path, name: str) -> None:
    arguments, said = CASES[name]
    done = run(EXTRAS, name, *arguments.split(), folder=folder)
    if said is None:
        assert (done.returncode, done.stderr) == (0, "")
        return
    (line,) = done.stderr.splitlines()
    assert (done.returncode, done.stdout) == (1, "")
    assert line.startswith("error: ")
    assert said in line


def test_a_study_on_a_cluster_names_its_extra(folder: Path) -> None:
    arguments = ["quality", "--quick", "--model", "scratch", "--scheduler", "tcp://127.0.0.1:1"]
    done = run("distributed,dask", "experiment", *arguments, folder=folder)
    assert done.returncode == 1
    assert "the package distributed is missing" in done.stderr.splitlines()[-1]
    assert "pip install 'siftmoe[cluster]'" in done.stderr


@pytest.mark.parametrize("package", ["onnxruntime", "numba", "torch"])
def test_one_missing_package_is_named(tmp_path: Path, package: str) -> None:
    write_bundle(tmp_path / "bundle", shape_of())
    name = "agent" if package == "onnxruntime" else "loopback"
    arguments = ["--bundle", "bundle"] if name == "agent" else []
    done = run(package, name, *arguments, folder=tmp_path)
    (line,) = done.stderr.splitlines()
    assert done.returncode == 1
    if name == "agent":
        assert "ONNX Runtime, which cannot be imported" in line
    else:
        assert line.startswith(f"error: the package {package} is missing; pip install 'siftmoe[")


def test_a_package_of_nobody_is_an_error_of_the_program() -> None:
    assert way_out(ModuleNotFoundError("x", name="siftmoe.tools.nowhere")) is None
    assert way_out(ImportError("x")) is None
