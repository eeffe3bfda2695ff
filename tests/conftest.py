"""What several folders of tests share."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

# The models here are too small to share among threads, which would only wait for each other; set
# before torch is imported, and inherited by every process that a test starts.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# xdist tells its workers the width of a terminal that they do not have; tables would be cut to it.
os.environ.pop("COLUMNS", None)

# with --import-mode=importlib the folder of a test is not importable, `families` has to be
sys.path.insert(0, str(Path(__file__).parent))


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--bench",
        metavar="FILE",
        help="run tests/hardware on the radios of this file instead of emulated ones",
    )


def pytest_sessionstart(session: pytest.Session) -> None:
    """Compile what agents load when they start: once, and not in every one of them side by side."""
    if not hasattr(session.config, "workerinput"):
        from siftmoe.models.vectors.fused import load_kernels

        load_kernels()


@pytest.fixture(scope="session")
def family_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Folder of a family's random checkpoint, written once; treat it as read-only."""
    from families import save_checkpoint

    root = tmp_path_factory.mktemp("checkpoints")

    def get(family: str) -> Path:
        folder = root / family
        return folder if folder.is_dir() else save_checkpoint(family, folder)

    return get


@pytest.fixture(scope="session")
def family_bundle(
    tmp_path_factory: pytest.TempPathFactory, family_checkpoint: Callable[[str], Path]
) -> Callable[[str], Path]:
    """Folder of a family's bundle in float32, prepared once; treat it as read-only."""
    from siftmoe.models.bundle.writer import prepare_bundle

    root = tmp_path_factory.mktemp("bundles")

    def get(family: str) -> Path:
        return prepare_bundle(family_checkpoint(family), root / family).root

    return get
