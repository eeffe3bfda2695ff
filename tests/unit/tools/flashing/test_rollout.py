"""Order of a rollout: first board alone, then batches, nothing after a release that failed."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from siftmoe.tools.flashing.errors import BoardUnreachable
from siftmoe.tools.flashing.rollout import Outcome, Rollout

SITE: Any = SimpleNamespace(agent=lambda index: SimpleNamespace(name=str(index)))


class Silent:
    """A report that nobody reads."""

    def phase(self, board: str, text: str) -> None:
        pass

    def expect(self, board: str, num_bytes: int) -> None:
        pass

    def advance(self, board: str, num_bytes: int) -> None:
        pass


def roll_out(results: str, *, batch: int = 2) -> tuple[list[list[int]], str]:
    """Flash a board per letter: flashed, changed and failed (x), unreachable (u).

    Returns the batches, and a letter per outcome; s: skipped.
    """
    batches: list[list[int]] = []
    running: set[int] = set()

    class Scripted(Rollout):
        async def _flash(self, index: int) -> Outcome:
            if not running:
                batches.append([])
            running.add(index)
            batches[-1].append(index)
            await asyncio.sleep(0)
            running.discard(index)
            if results[index] == "u":
                raise BoardUnreachable("off")
            result = "flashed" if results[index] == "f" else "failed"
            return Outcome(board=str(index), result=result, begun=True)

    outcomes = asyncio.run(
        Scripted(site=SITE, report=Silent(), batch=batch).run(range(len(results)))
    )
    letters = {"flashed": "f", "skipped": "s"}
    return batches, "".join(
        letters.get(outcome.result) or ("x" if outcome.begun else "u") for outcome in outcomes
    )


@pytest.mark.parametrize(
    ("results", "batches", "outcomes"),
    [
        ("fffff", [[0], [1, 2], [3, 4]], "fffff"),
        ("fxfff", [[0], [1, 2]], "fxfss"),
        ("xffff", [[0]], "xssss"),
        ("uffff", [[0], [1], [2, 3], [4]], "uffff"),
        ("uuxff", [[0], [1], [2]], "uuxss"),
        ("fufuf", [[0], [1, 2], [3, 4]], "fufuf"),
    ],
)
def test_the_order_of_a_rollout(results: str, batches: list[list[int]], outcomes: str) -> None:
    assert roll_out(results) == (batches, outcomes)
