"""Steps of a model: detects forward passes, and which of their rows are real tokens.

One forward pass of the model is one step: a prefill if it has several tokens of a sequence, a
decode if it has one. Torch's hooks mark beginning and end of a step, so callers use the model as
usual, ``generate`` included, from any thread: of several threads one at a time runs its pass. Hooks
are not compiled, so ``torch.compile`` splits the model around them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch

from siftmoe.coordinator.model.turns import Turns

if TYPE_CHECKING:
    from numpy.typing import NDArray

    BoolArray = NDArray[np.bool_]


class StepListener(Protocol):
    """Receives the beginning and end of steps."""

    def begin_step(self, *, tokens: int, prefill: bool) -> None:
        """Handle the beginning of a forward pass."""
        ...

    def end_step(self, *, failed: bool) -> None:
        """Handle its end, or its failure with an error."""
        ...


class StepHooks:
    """Hooks on the forward passes of a model.

    The encoder of an encoder-decoder also runs separately inside ``generate``. A pass within a pass
    belongs to the step of the outer one, but has its own rows. A decoder's base model may be called
    alone, as in ``model.model(ids)``; within a pass its rows are those of the pass.

    Parameters
    ----------
    model : transformers.PreTrainedModel
    listener : StepListener
    """

    def __init__(self, model: Any, listener: StepListener) -> None:
        self._listener = listener
        self._rows: list[BoolArray | None] = []
        self._running: list[Any] = []
        self._turns = Turns()
        self._base = getattr(model, "base_model", model)
        modules = [model]
        if model.config.is_encoder_decoder:
            modules.append(model.get_encoder())
        elif self._base is not model:
            modules.append(self._base)
        begin = torch.compiler.disable(self._begin)  # type: ignore[no-untyped-call]
        end = torch.compiler.disable(self._end)  # type: ignore[no-untyped-call]
        self._handles = [
            handle
            for module in modules
            for handle in (
                module.register_forward_pre_hook(begin, with_kwargs=True),
                module.register_forward_hook(end, always_call=True),
            )
        ]

    def real_rows(self, count: int) -> BoolArray | None:
        """Mask of the real tokens among the ``count`` rows of the running pass; None: all are."""
        rows = self._rows[-1] if self._rows else None
        return rows if rows is not None and rows.size == count and not rows.all() else None

    def remove(self) -> None:
        """Remove the hooks."""
        for handle in self._handles:
            handle.remove()

    def running(self) -> bool:
        """Whether this thread is in a forward pass."""
        return bool(self._rows) and self._turns.mine()

    def running_elsewhere(self) -> bool:
        """Whether another thread is in a forward pass."""
        return bool(self._rows) and not self._turns.mine()

    def interrupted(self) -> None:
        """End a pass that is left by an interrupt, of which torch tells no hook."""
        if self.running():
            self._break_off()

    def _begin(self, module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self._turns.take()
        try:
            if any(module is running for running in self._running):
                self._break_off()
                self._turns.take()
            if self._rows and module is self._base:
                rows = self._rows[-1]
            else:
                tokens, prefill, rows = _describe(args, kwargs)
                if not self._rows:
                    self._listener.begin_step(tokens=tokens, prefill=prefill)
        except BaseException:
            if not self._rows:
                self._turns.pass_on()
            raise
        self._rows.append(rows)
        self._running.append(module)

    def _end(self, _module: Any, _args: Any, output: Any) -> None:
        if not self.running():  # broken off, or never begun
            return
        self._rows.pop()
        self._running.pop()
        if not self._rows:
            try:
                self._listener.end_step(failed=output is None)
            finally:
                self._turns.pass_on()

    def _break_off(self) -> None:
        """End a pass that an interrupt aborted: torch calls no hook after a Ctrl-C."""
        self._rows.clear()
        self._running.clear()
        try:
            self._listener.end_step(failed=True)
        finally:
            self._turns.pass_on()


def _describe(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[int, bool, BoolArray | None]:
    """Tokens of a pass, whether it is a prefill, and the mask of its real rows."""
    decoder = kwargs.get("decoder_input_ids")
    ids = decoder if decoder is not None else kwargs.get("input_ids", args[0] if args else None)
    if ids is None:
        embeds = kwargs.get("inputs_embeds")
        if embeds is None:
            return 0, True, None
        ids = embeds[..., 0]  # [B, S, d] -> [B, S]
    sequences, length = ids.shape
    mask = kwargs.get("attention_mask" if decoder is None else "decoder_attention_mask")
    if mask is None or getattr(mask, "ndim", 0) != 2:  # or made for another kind of attention
        return sequences * length, length > 1, None
    rows: BoolArray = mask[:, -length:].reshape(-1).bool().cpu().numpy()  # [B * S]
    return int(rows.sum()), length > 1, rows
