"""A model whose experts are served by agents, as Python programs use it."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any

from siftmoe.models.tasks.evaluation import load_task
from siftmoe.tools.library.overview import Overview

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import ExitStack

    from siftmoe.coordinator.coordinator import Coordinator
    from siftmoe.coordinator.ledger.store import Ledger
    from siftmoe.coordinator.model.session import Session
    from siftmoe.models.bundle.reader import Bundle
    from siftmoe.models.tasks.scores import TaskResult


class Deployment:
    """A model on agents, ready; `siftmoe.local` and `siftmoe.connect` make it.

    Used as a context manager, or closed by `close`. What it has cost can be read after that too.

    Parameters
    ----------
    coordinator : Coordinator
        Attached to the session's model.
    bundle : Bundle
    session : Session
    policy : str
    resources : ExitStack
        Everything that has to end with it: agents, sockets, radios, files.
    """

    def __init__(
        self,
        coordinator: Coordinator,
        *,
        bundle: Bundle,
        session: Session,
        policy: str,
        resources: ExitStack,
    ) -> None:
        self.coordinator = coordinator
        self.bundle = bundle
        self.policy = policy
        self._session = session
        self._last: Overview | None = None
        self._end = weakref.finalize(self, resources.close)

    @property
    def model(self) -> Any:
        """The attached Hugging Face model."""
        return self._session.model

    @property
    def tokenizer(self) -> Any:
        """The model's tokenizer.

        Raises
        ------
        ValueError
            If neither the bundle nor the caller had one.
        """
        if self._session.tokenizer is None:
            raise ValueError("the bundle has no tokenizer; give one with tokenizer=")
        return self._session.tokenizer

    @property
    def ledger(self) -> Ledger:
        """Every selection and transmission so far, while the deployment is open."""
        return self.coordinator.ledger

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return not self._end.alive

    def generate(
        self,
        text: str,
        *,
        max_new_tokens: int = 40,
        on_text: Callable[[str], None] | None = None,
    ) -> str:
        """Likeliest continuation of a text.

        Parameters
        ----------
        text : str
        max_new_tokens : int
        on_text : callable or None
            Called with each new piece of text as soon as it is there.

        Returns
        -------
        str
            The continuation without the text.

        Raises
        ------
        ValueError
            If the deployment is closed, or the text is empty or longer than the context.
        """
        self._check_open()
        _ = self.tokenizer  # said here, and not in the middle of the work
        return self._session.generate(text, max_new_tokens=max_new_tokens, on_text=on_text)

    def evaluate(
        self, task: str = "perplexity", *, limit: int | None = 100, batch_size: int = 8
    ) -> TaskResult:
        """Score a task, as ``--task`` of the commands names it.

        Parameters
        ----------
        task : str
        limit : int or None
            Items at most.
        batch_size : int
            Sequences of one prefill.

        Raises
        ------
        ValueError
            If the deployment is closed, or there is no such task.
        """
        self._check_open()
        loaded = load_task(
            task, tokenizer=self.tokenizer, limit=limit, context=self.bundle.context_length
        )
        return self._session.evaluate(loaded, batch_size=batch_size)

    def table(self) -> Overview:
        """Sum up what was sent, decided and spent so far, as text and as a notebook's table."""
        if self._last is not None:
            return self._last
        return Overview.of(self.ledger.summary(), policy=self.policy)

    def close(self) -> None:
        """End agents that were started here, connections and radios; once."""
        if self._end.alive:
            self._last = self.table()
            self._end()

    def _check_open(self) -> None:
        if self.closed:
            raise ValueError("this deployment is closed; make another one")

    def __enter__(self) -> Deployment:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
