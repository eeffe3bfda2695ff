"""A small model, its experts in this process, and a ledger."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from siftmoe.coordinator.ledger.store import Ledger
from siftmoe.models.bundle.reader import Bundle
from siftmoe.tools.comparing.inprocess import ExpertsInProcess

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@pytest.fixture(scope="module")
def bundle(family_bundle: Callable[[str], Path]) -> Bundle:
    return Bundle.open(family_bundle("mixtral"))


@pytest.fixture(scope="module")
def experts(bundle: Bundle) -> ExpertsInProcess:
    return ExpertsInProcess(bundle)


@pytest.fixture(scope="module")
def model(bundle: Bundle) -> Any:
    return bundle.load_backbone().eval()


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with Ledger.create(tmp_path / "ledger.sqlite") as ledger:
        yield ledger
