"""Steps of a coordinator that break off, run in other threads, or cannot be booked."""

from __future__ import annotations

import threading
from typing import Any

import pytest
import torch
from small_coordinator import Faulty, feed, make, serve

from siftmoe.coordinator.errors import AgentUnreachable, LedgerError
from siftmoe.coordinator.ledger.store import Ledger, SelectionRow, StepRow, TransmissionRow
from siftmoe.models.bundle.reader import Bundle
from siftmoe.tools.comparing.inprocess import ExpertsInProcess


def test_a_step_that_breaks_off_books_what_it_spent_apart(
    bundle: Bundle, experts: ExpertsInProcess, model: Any, ledger: Ledger
) -> None:
    """The second step's second layer sends its requests and gets no answer."""
    with make(bundle, Faulty(experts, at=4), ledger).attached(model):
        feed(model, 3)
        with pytest.raises(AgentUnreachable, match="agent-1"):
            feed(model, 3)
        feed(model, 2)
    steps = [(row.tokens, row.aborted) for row in ledger.rows(StepRow)]
    assert steps == [(3, False), (3, True), (2, False)]
    bursts: dict[int, set[tuple[int, str]]] = {0: set(), 1: set(), 2: set()}
    for row in ledger.rows(TransmissionRow):
        bursts[row.step].add((row.layer, str(row.direction)))
    whole = {(0, "up"), (0, "down"), (1, "up"), (1, "down")}
    assert bursts == {0: whole, 1: whole - {(1, "down")}, 2: whole}
    total = ledger.summary()
    assert (total.steps, total.tokens, total.aborted) == (2, 5, 1)
    spent = [row.energy_j for row in ledger.rows(TransmissionRow) if row.step == 1]
    assert total.aborted_energy_j == pytest.approx(sum(spent))


def test_a_step_that_an_interrupt_left_open_is_booked_when_the_model_is_left(
    bundle: Bundle, experts: ExpertsInProcess, model: Any, ledger: Ledger
) -> None:
    coordinator = make(bundle, experts, ledger)
    with coordinator.attached(model):
        coordinator.begin_step(tokens=2, prefill=True)
        serve(coordinator, bundle, [[0, 1], [1, 2]])
    (step,) = ledger.rows(StepRow)
    assert step.aborted
    assert len(list(ledger.rows(TransmissionRow))) > 0


def test_a_pass_in_another_thread_is_booked_like_any_other(
    bundle: Bundle, experts: ExpertsInProcess, model: Any, ledger: Ledger
) -> None:
    failed: list[BaseException] = []

    def passes() -> None:
        try:
            for length in (3, 1, 1):
                feed(model, length)
        except BaseException as error:  # noqa: BLE001 - a thread's own end, told below
            failed.append(error)

    with make(bundle, experts, ledger).attached(model):
        threads = [threading.Thread(target=passes) for _ in range(3)]
        for thread in threads:
            thread.start()
        feed(model, 2)
        for thread in threads:
            thread.join(60.0)
    assert failed == []
    steps = list(ledger.rows(StepRow))
    assert sorted(step.tokens for step in steps) == [1] * 6 + [2] + [3] * 3
    assert [step.step for step in steps] == list(range(10))
    layers = [(row.step, row.layer) for row in ledger.rows(SelectionRow)]
    assert layers == [(step, layer) for step in range(10) for layer in range(2)]


def test_the_base_model_alone_and_compiled_models_run(
    bundle: Bundle, experts: ExpertsInProcess, model: Any, ledger: Ledger
) -> None:
    ids = torch.arange(3, 8)[None]
    with torch.no_grad(), make(bundle, experts, ledger).attached(model):
        whole = model(ids).logits
        base = model.model(ids).last_hidden_state
        torch.testing.assert_close(model.lm_head(base), whole)
        compiled = torch.compile(model, backend="eager")
        torch.testing.assert_close(compiled(ids).logits, whole)
    assert [step.tokens for step in ledger.rows(StepRow)] == [5] * 3
    assert not any(step.aborted for step in ledger.rows(StepRow))


def feed_often(model: Any, length: int, *, times: int) -> None:
    for _ in range(times):
        feed(model, length)


def test_a_step_that_cannot_be_booked_is_booked_before_the_next(
    bundle: Bundle, experts: ExpertsInProcess, model: Any, ledger: Ledger
) -> None:
    connection = ledger._open_connection()
    pages = connection.execute("PRAGMA page_count").fetchone()[0]
    with make(bundle, experts, ledger).attached(model):
        connection.execute(f"PRAGMA max_page_count = {pages}")
        with pytest.raises(LedgerError, match="cannot be written"):
            feed_often(model, 2, times=100)
        booked = ledger.last_step
        with pytest.raises(LedgerError, match="cannot be written"):
            feed(model, 2)
        connection.execute("PRAGMA max_page_count = 100000")
        feed(model, 3)
    steps = list(ledger.rows(StepRow))
    whole = -1 if booked is None else booked
    assert [step.step for step in steps] == list(range(whole + 3))
    assert [step.tokens for step in steps[-2:]] == [2, 3]


def test_a_value_that_cannot_be_booked_spoils_no_later_step(
    bundle: Bundle, experts: ExpertsInProcess, model: Any, ledger: Ledger
) -> None:
    coordinator = make(bundle, experts, ledger)
    with coordinator.attached(model):
        coordinator.begin_step(tokens=-1, prefill=True)
        with pytest.raises(ValueError, match="cannot be booked"):
            coordinator.end_step(failed=False)
        feed(model, 3)
    assert [step.tokens for step in ledger.rows(StepRow)] == [3]
