"""Decodes the requests of all clients together, in one thread.

Requests wait in a bounded queue, join the batch between two steps, and leave it when they end or
their client is gone. Every forward pass is a step of the coordinator's; its energy is shared
equally by the tokens that it fed, so that the requests' energies add up to the ledger's.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from typing import TYPE_CHECKING, Any

from siftmoe.coordinator.ledger.spending import Spending
from siftmoe.coordinator.model.batching import DecodingBatch
from siftmoe.tools.serving.asking import Broken, Done, Piece
from siftmoe.tools.serving.sampling import Sampler, scored, scored_prompt
from siftmoe.tools.serving.text import TextAssembler

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from siftmoe.coordinator.ledger.store import Ledger
    from siftmoe.tools.serving.asking import Ask, Event, Scored

_log = logging.getLogger(__name__)


class Busy(Exception):
    """As many requests wait as may wait."""


class Request:
    """A request in the engine; `cancel` may be called from any thread.

    Parameters
    ----------
    ask : Ask
    tell : callable
        Called in the engine's thread with every event.
    """

    def __init__(self, ask: Ask, tell: Callable[[Event], None], tokenizer: Any) -> None:
        self.ask = ask
        self.cancelled = False
        self.tell = tell
        self.sampler = Sampler(ask.sampling)
        self.text = TextAssembler(tokenizer, ask.stop)
        self.spending = Spending()
        self.last = -1
        self.count = 0

    def cancel(self) -> None:
        """Leave the batch before the next step; nothing more is told."""
        self.cancelled = True


class Engine:
    """The thread that runs the model.

    Parameters
    ----------
    model, tokenizer
        The attached model, and its tokenizer.
    ledger : Ledger
        Of the coordinator that the model is attached to.
    most_together : int
        Sequences of a batch.
    most_waiting : int
        Requests that wait for a place.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        ledger: Ledger,
        *,
        most_together: int = 8,
        most_waiting: int = 32,
    ) -> None:
        self._model = model
        self._tokenizer = tokenizer
        self._ledger = ledger
        self._most_together = most_together
        self._most_waiting = most_waiting
        ends = model.generation_config.eos_token_id
        self._ends = {ends} if isinstance(ends, int) else set(ends or ())
        self._changed = threading.Condition()
        self._waiting: deque[Request] = deque()
        self._closing = False
        self._batch = DecodingBatch(model)
        self._running: dict[int, Request] = {}
        self._thread = threading.Thread(target=self._run, name="siftmoe-serve", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def submit(self, ask: Ask, tell: Callable[[Event], None]) -> Request:
        """Queue a request.

        Raises
        ------
        Busy
            If the queue is full.
        ValueError
            If the engine is closed.
        """
        request = Request(ask, tell, self._tokenizer)
        with self._changed:
            if self._closing:
                raise ValueError("the engine is closed")
            if len(self._waiting) >= self._most_waiting:
                raise Busy(f"{len(self._waiting)} requests are waiting; try again later")
            self._waiting.append(request)
            self._changed.notify()
        return request

    @property
    def load(self) -> tuple[int, int]:
        """Requests that run, and that wait."""
        return len(self._running), len(self._waiting)

    def close(self) -> None:
        """End all requests and the thread; returns when the pass that is running is over."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        while self._wait():
            try:
                self._join()
                self._step()
            except Exception as error:  # noqa: BLE001 - the boundary of the thread
                _log.exception("a step failed; its requests end")
                self._fail(error)
        self._fail(ValueError("the server is shutting down"))

    def _wait(self) -> bool:
        """Wait until there is something to do; False when the engine closes."""
        with self._changed:
            while not (self._closing or self._waiting or self._running):
                self._changed.wait()
            return not self._closing

    def _next(self) -> Request | None:
        with self._changed:
            while self._waiting and len(self._running) < self._most_together:
                request = self._waiting.popleft()
                if not request.cancelled:
                    return request
        return None

    def _join(self) -> None:
        while (request := self._next()) is not None:
            try:
                key, logits = self._batch.join(request.ask.ids)
            except Exception:
                self._running[-1] = request  # it fails with the batch
                raise
            self._running[key] = request
            request.spending += self._spent()
            self._begin(key, request, logits)

    def _begin(self, key: int, request: Request, logits: Tensor) -> None:
        ask = request.ask
        if ask.score_prompt and ask.logprobs is not None:
            tokens = scored_prompt(ask.ids, logits, alternatives=ask.logprobs)
            request.tell(Piece(text="", tokens=tokens))
        if ask.max_tokens == 0:
            self._finish([key], "length")
        else:
            self._advance(key, request, logits[-1])

    def _step(self) -> None:
        gone = [key for key, request in self._running.items() if request.cancelled]
        for key in gone:
            del self._running[key]
        self._batch.leave(gone)
        if not self._running:
            return
        logits = self._batch.step({key: one.last for key, one in self._running.items()})
        part = self._spent().share(1.0 / len(logits))
        for key in logits:
            self._running[key].spending += part
        for key, row in logits.items():
            self._advance(key, self._running[key], row)

    def _advance(self, key: int, request: Request, logits: Tensor) -> None:
        """Draw the next token of a sequence, and tell it."""
        token = request.sampler.draw(logits)
        ask = request.ask
        request.last = token
        request.count += 1
        if token in self._ends:
            self._finish([key], "stop")
            return
        tokens: tuple[Scored, ...] = ()
        if ask.logprobs is not None:
            tokens = (scored(logits, token, alternatives=ask.logprobs),)
        text = request.text.add(token)
        if text or tokens:
            request.tell(Piece(text=text, tokens=tokens))
        if request.text.stopped:
            self._finish([key], "stop")
        elif request.count >= ask.max_tokens:
            self._finish([key], "length")

    def _finish(self, keys: list[int], reason: str) -> None:
        self._batch.leave(keys)
        for key in keys:
            request = self._running.pop(key)
            if (rest := request.text.rest()) != "":
                request.tell(Piece(text=rest))
            request.tell(
                Done(
                    reason=reason,
                    prompt_tokens=len(request.ask.ids),
                    completion_tokens=request.count,
                    spending=request.spending,
                )
            )

    def _spent(self) -> Spending:
        step = self._ledger.last_step
        return Spending() if step is None else self._ledger.spending(step)

    def _fail(self, error: Exception) -> None:
        """End the running requests with an error; those that wait get a fresh batch."""
        running, self._running = self._running, {}
        self._batch = DecodingBatch(self._model)
        ended = list(running.values())
        with self._changed:
            if self._closing:
                ended += self._waiting
                self._waiting.clear()
        for request in ended:
            if not request.cancelled:
                request.tell(Broken(error))
