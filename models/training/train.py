"""Trains the tiny checkpoints: one thread, schedules by step count, seeded, resumable.

::

    python -m siftmoe.models.training.train dense    --tokens build/tiny/tokens --work build/tiny
    python -m siftmoe.models.training.train upcycled --tokens build/tiny/tokens --work build/tiny
    python -m siftmoe.models.training.train scratch  --tokens build/tiny/tokens --work build/tiny

``upcycled`` starts from the result of ``dense``. An interrupted run resumes at its last saved state
and ends with the same weights as an uninterrupted one. The log is ``WORK/NAME/log.jsonl``, the
state ``WORK/NAME/state.pt``. The same kind of machine and the same versions give the same weights.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import torch
from torch import Tensor
from transformers import MixtralForCausalLM

from siftmoe.models.training.loss import head_cross_entropy
from siftmoe.models.training.model import NUM_EXPERTS, load_balancing_loss, new_model, upcycle

WINDOW = 256
BATCH = 8
LOG_EVERY = 100
SAVE_EVERY = 500
VAL_WINDOWS = 96
BALANCE_WEIGHT = 0.02
CLIP_NORM = 1.0


@dataclass(frozen=True, slots=True)
class Recipe:
    """The recipe of one model's training."""

    steps: int
    num_experts: int = NUM_EXPERTS
    start: str | None = None
    seed: int = 0
    peak_rate: float = 3e-3
    warmup_steps: int = 100
    decay_share: float = 0.3

    def rate(self, step: int) -> float:
        """Learning rate of a step: warm-up, constant, linear to zero over the last share.

        The constant part does not depend on ``steps``, so a run may be lengthened before its decay
        begins, and a single command still repeats it.
        """
        warm = min(1.0, (step + 1) / self.warmup_steps)
        if self.decay_share == 0:
            return self.peak_rate * warm
        left = (self.steps - step) / (self.decay_share * self.steps)
        return self.peak_rate * warm * min(1.0, left)


RECIPES = {
    # No decay: upcycling continues from the middle of the training.
    "dense": Recipe(steps=2_500, num_experts=1, seed=1, decay_share=0.0),
    # Short, with a low learning rate: 6,000 steps at the full rate reach perplexity 16.4 instead of
    # 18.9, but then the experts are hardly more similar than those trained from scratch.
    "upcycled": Recipe(steps=2_400, start="dense", seed=2, peak_rate=2e-3, decay_share=0.5),
    "scratch": Recipe(steps=8_000, seed=3),
}


class Windows:
    """Fixed-length windows of a row of tokens, in an order given by the seed and the step."""

    def __init__(self, tokens: np.ndarray[Any, np.dtype[Any]], *, seed: int) -> None:
        self._tokens = tokens.astype(np.int64)
        self._seed = seed
        self._count = (len(tokens) - 1) // WINDOW - 1
        self._order: tuple[int, int, Any] = (-1, 0, None)

    def batch(self, step: int) -> Tensor:
        """Return the (BATCH, WINDOW + 1) tokens of a step; every epoch visits each window once."""
        numbers = range(step * BATCH, (step + 1) * BATCH)
        rows = [self._tokens[s : s + WINDOW + 1] for s in map(self._start, numbers)]
        return torch.from_numpy(np.stack(rows))

    def _start(self, number: int) -> int:
        epoch, place = divmod(number, self._count)
        if self._order[0] != epoch:
            rng = np.random.default_rng([self._seed, epoch])
            self._order = (epoch, int(rng.integers(WINDOW)), rng.permutation(self._count))
        _, offset, permutation = self._order
        return offset + int(permutation[place]) * WINDOW


def losses(model: MixtralForCausalLM, batch: Tensor) -> tuple[Tensor, Tensor]:
    """Return the cross entropy, nats per token, and the load-balancing loss of a batch."""
    result = model.model(input_ids=batch[:, :-1], output_router_logits=True, use_cache=False)
    hidden = result.last_hidden_state.flatten(0, 1)  # [B*T, d]
    entropy = head_cross_entropy(hidden, model.lm_head.weight, batch[:, 1:].flatten())
    return entropy, load_balancing_loss(result.router_logits, model.config.num_experts_per_tok)


@torch.no_grad()
def validate(model: MixtralForCausalLM, tokens: np.ndarray[Any, np.dtype[Any]]) -> float:
    """Return the cross entropy on windows spread over held-out tokens, nats per token."""
    starts = np.linspace(0, len(tokens) - WINDOW - 1, VAL_WINDOWS).astype(int)
    rows = np.stack([tokens[start : start + WINDOW + 1] for start in starts]).astype(np.int64)
    batches = [torch.from_numpy(rows[k : k + BATCH]) for k in range(0, VAL_WINDOWS, BATCH)]
    return sum(losses(model, batch)[0].item() for batch in batches) / len(batches)


def make_optimizer(model: MixtralForCausalLM) -> torch.optim.Optimizer:
    """AdamW with weight decay on the matrices alone, not on embeddings and norms."""
    named = list(model.named_parameters())
    decayed = [p for n, p in named if p.dim() >= 2 and "embed" not in n]
    others = [p for n, p in named if not (p.dim() >= 2 and "embed" not in n)]
    groups = [{"params": decayed, "weight_decay": 0.1}, {"params": others, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, betas=(0.9, 0.95), fused=True)


class Training:
    """The training of one model, with its state on disk."""

    def __init__(self, name: str, recipe: Recipe, *, tokens: Path, work: Path) -> None:
        self._recipe = recipe
        self._folder = work / name
        self._folder.mkdir(parents=True, exist_ok=True)
        self._windows = Windows(np.load(tokens / "train.npy"), seed=recipe.seed)
        self._val = np.load(tokens / "val.npy")
        self.model = self._initial(work)
        self._optimizer = make_optimizer(self.model)
        self.step = 0
        self._load()

    def _initial(self, work: Path) -> MixtralForCausalLM:
        recipe = self._recipe
        if recipe.start is None:
            return new_model(recipe.num_experts, seed=recipe.seed)
        dense = new_model(1, seed=0)
        dense.load_state_dict(load_state(work / recipe.start)["model"])
        return upcycle(dense, seed=recipe.seed)

    def _load(self) -> None:
        if (self._folder / "state.pt").exists():
            state = load_state(self._folder)
            self.model.load_state_dict(state["model"])
            self._optimizer.load_state_dict(state["optimizer"])
            self.step = state["step"]

    def _save(self) -> None:
        state = {
            "model": self.model.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "step": self.step,
        }
        torch.save(state, self._folder / "state.new")
        os.replace(self._folder / "state.new", self._folder / "state.pt")

    def run(self) -> None:
        """Train to the last step of the recipe, logging and saving on the way."""
        with (self._folder / "log.jsonl").open("a") as log:
            self._run(log)

    def _run(self, log: TextIO) -> None:
        self.model.train()
        entropies: list[float] = []
        started = time.process_time()
        while self.step < self._recipe.steps:
            entropy, balance = self._advance()
            entropies.append(entropy)
            if self.step % LOG_EVERY and self.step < self._recipe.steps:
                continue
            line: dict[str, object] = {
                "step": self.step,
                "tokens": self.step * BATCH * WINDOW,
                "train_entropy": round(sum(entropies) / len(entropies), 4),
                "balance": round(balance, 4),
                "cpu_s": round(time.process_time() - started, 1),
                "wall": time.strftime("%H:%M:%S"),
            }
            entropies.clear()
            if self.step % SAVE_EVERY == 0 or self.step == self._recipe.steps:
                self.model.eval()
                line["val_entropy"] = round(validate(self.model, self._val), 4)
                self.model.train()
                self._save()
            log.write(json.dumps(line) + "\n")
            log.flush()

    def _advance(self) -> tuple[float, float]:
        for group in self._optimizer.param_groups:
            group["lr"] = self._recipe.rate(self.step)
        entropy, balance = losses(self.model, self._windows.batch(self.step))
        torch.autograd.backward([entropy + BALANCE_WEIGHT * balance])
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), CLIP_NORM)
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        self.step += 1
        return entropy.item(), balance.item()


def load_state(folder: Path) -> dict[str, Any]:
    """Read the state of a training.

    Raises
    ------
    ValueError
        If the folder holds none.
    """
    path = folder / "state.pt"
    if not path.exists():
        raise ValueError(f"{path} does not exist: train {folder.name!r} first")
    state: dict[str, Any] = torch.load(path, weights_only=True)
    return state


def main() -> None:
    """Train one model from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("name", choices=RECIPES)
    parser.add_argument("--tokens", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    recipe = RECIPES[arguments.name]
    Training(arguments.name, recipe, tokens=arguments.tokens, work=arguments.work).run()


if __name__ == "__main__":
    main()
