"""Collects wheels for a board's Python and architecture: siftmoe's own and its dependencies.

The wheels chosen for a board are recorded with their hashes in a lock file next to the testbed, so
that later boards, and later releases, get the same files or an error. The board itself never uses
an index.
"""

from __future__ import annotations

import configparser
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from siftmoe.tools.flashing.errors import ReleaseError

if TYPE_CHECKING:
    from collections.abc import Sequence

#: Packages of siftmoe for a board: no coordinator, no studies, no checkpoints.
_PACKAGES: Final = ("agent", "models", "radio")
#: Dependencies of an agent, as in setup.cfg, and pip itself to install them on the board.
_REQUIREMENTS: Final = (
    "numpy>=1.26",
    "pyzmq>=26",
    "msgpack>=1.0.8",
    "msgspec>=0.19",
    "pip>=23.1",
)
_OLD_PYTHON: Final = "tomli>=2.0"
#: For a board with a Pluto; libiio 0.24 comes from its system.
_RADIO: Final = ("pyadi-iio==0.0.21", "pylibiio>=0.25,<1")
#: Compiles the packing of vectors on the board.
_COMPILER: Final = "numba>=0.61"
#: Runs on every board; NVIDIA's build for Jetson can be given with --wheels.
_RUNTIME: Final = "onnxruntime"
_GPU_RUNTIME: Final = "onnxruntime-gpu"
_RUNTIME_VERSION: Final = ">=1.18"
_SUPPORTED: Final = ("3.10", "3.11", "3.12", "3.13")
#: Earliest date of a zip file; a constant date makes the wheel reproducible.
_EPOCH: Final = "315532800"


@dataclass(frozen=True, slots=True)
class Target:
    """Target of wheels: Python as "3.10", machine and C library as the board reports them."""

    python: str
    machine: str
    libc: str

    @property
    def tag(self) -> str:
        """Name of the target in file names, as ``cp310-aarch64``."""
        return f"cp{self.python.replace('.', '')}-{self.machine}"

    def options(self) -> list[str]:
        """Return pip's options that choose wheels for the target.

        Raises
        ------
        ReleaseError
            If siftmoe does not run on the target.
        """
        if self.python not in _SUPPORTED:
            raise ReleaseError(
                f"the board has Python {self.python}; an agent needs 3.10 to {_SUPPORTED[-1]}"
            )
        kind, _, version = self.libc.partition("-")
        if kind != "glibc":
            raise ReleaseError(f"the board's C library is {self.libc!r}; wheels are for glibc")
        minor = int(version.split(".")[1])
        platforms = [f"manylinux_2_{n}_{self.machine}" for n in range(minor, 16, -1)]
        platforms += [f"manylinux2014_{self.machine}", f"linux_{self.machine}"]
        chosen = [f"--platform={platform}" for platform in platforms]
        return ["--only-binary=:all:", f"--python-version={self.python}", *chosen]


def own_wheel(folder: Path) -> Path:
    """Build siftmoe's wheel for boards from this installation's source.

    Raises
    ------
    ReleaseError
        If siftmoe was not installed from a source folder, or the wheel cannot be built.
    """
    source = Path(__file__).resolve().parents[3]
    if not (source / "setup.cfg").is_file():
        raise ReleaseError(
            "this siftmoe was installed without its source; install it with pip install -e from "
            "a checkout, or give its wheel with --wheels FOLDER"
        )
    with tempfile.TemporaryDirectory() as scratch:
        package = Path(scratch) / "src" / "siftmoe"
        package.mkdir(parents=True)
        for file in (source / "src" / "siftmoe").iterdir():
            if file.is_file():
                shutil.copy2(file, package)
        for name in _PACKAGES:
            ignored = shutil.ignore_patterns("__pycache__", "tiny", "training")
            shutil.copytree(source / name, package / name, ignore=ignored)
        for name in ("README.md", "LICENSE", "pyproject.toml"):
            shutil.copy2(source / name, scratch)
        _write_setup(source / "setup.cfg", Path(scratch) / "setup.cfg")
        _pip("wheel", "--no-deps", "--no-build-isolation", f"--wheel-dir={folder}", scratch)
    return next(folder.glob("siftmoe-*.whl"))


def _write_setup(source: Path, target: Path) -> None:
    setup = configparser.RawConfigParser()
    setup.read(source, encoding="utf-8")
    setup["options.package_data"] = {"*": "py.typed"}
    for section in ("options.entry_points", "options.extras_require"):
        setup.remove_section(section)
    with target.open("w", encoding="utf-8") as stream:
        setup.write(stream)


def wheelhouse(
    target: Target,
    *,
    lock: Path,
    cache: Path,
    radio: bool = False,
    compiler: bool = False,
    onnxruntime: str | None = None,
    given: Path | None = None,
) -> list[Path]:
    """Collect the wheels of an agent except siftmoe's own.

    Parameters
    ----------
    target : Target
    lock : Path
        Names, versions and hashes. Written if it does not exist, else only its wheels are used.
    cache : Path
        Folder for downloads.
    radio : bool
        Whether the board has a Pluto.
    compiler : bool
        Whether the board compiles the packing of vectors.
    onnxruntime : str or None
        Version; None takes the newest.
    given : Path or None
        Folder of more wheels; with an onnxruntime-gpu among them that is the runtime.

    Raises
    ------
    ReleaseError
        If a wheel cannot be found, or differs from the one in the lock file.
    """
    folder = cache / target.tag
    folder.mkdir(parents=True, exist_ok=True)
    links = [f"--find-links={given}"] if given is not None else []
    command = ["download", f"--dest={folder}", *target.options(), *links]
    if lock.exists():
        if not _locked(folder, lock):
            _pip(*command, "--no-deps", "--require-hashes", f"--requirement={lock}")
        return _locked(folder, lock)
    on_gpu = given is not None and any(given.glob("onnxruntime_gpu-*.whl"))
    runtime = _GPU_RUNTIME if on_gpu else _RUNTIME
    chosen = f"=={onnxruntime}" if onnxruntime else _RUNTIME_VERSION
    wanted = [*_REQUIREMENTS, f"{runtime}{chosen}"]
    wanted += _RADIO if radio else ()
    wanted += (_COMPILER,) if compiler else ()
    wanted += (_OLD_PYTHON,) if target.python == "3.10" else ()
    with tempfile.TemporaryDirectory() as scratch:
        command[1] = f"--dest={scratch}"
        _pip(*command, *wanted)
        wheels = [Path(shutil.copy2(wheel, folder)) for wheel in Path(scratch).glob("*.whl")]
    lock.parent.mkdir(parents=True, exist_ok=True)
    lock.write_text(requirements(wheels), encoding="utf-8")
    return sorted(wheels)


def requirements(wheels: Sequence[Path]) -> str:
    """Pin wheels by name, version and hash, as pip requirements."""
    lines = []
    for wheel in sorted(wheels):
        name, version = wheel.name.split("-")[:2]
        digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
        lines.append(f"{name.replace('_', '-').lower()}=={version} --hash=sha256:{digest}\n")
    return "".join(sorted(lines))


def _locked(folder: Path, lock: Path) -> list[Path]:
    """Find a lock file's wheels by their hashes; returns none unless all are found."""
    lines = lock.read_text(encoding="utf-8").splitlines()
    wanted = {line.rpartition("sha256:")[2] for line in lines}
    wheels = {hashlib.sha256(path.read_bytes()).hexdigest(): path for path in folder.glob("*.whl")}
    return sorted(wheels[digest] for digest in wanted) if wanted <= wheels.keys() else []


def _pip(*arguments: str) -> None:
    environment = {"SOURCE_DATE_EPOCH": _EPOCH, "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "pip", *arguments, "--quiet"],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise ReleaseError(f"pip {arguments[0]} failed: {done.stderr.strip()[-2_000:]}")
