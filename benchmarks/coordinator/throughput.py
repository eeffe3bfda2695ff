"""Tokens per second with the experts on agents of this machine, beside the undivided model.

    python -m benchmarks.coordinator.throughput [--rounds N] [--agents 1 2 4 8]

The bundled model, all experts kept, float16 on the wire, one thread for torch and one for each
agent. The undivided Hugging Face model and every fleet take turns round by round, so that a busy
machine slows all of them; medians over the rounds, and the median of the ratios within a round.
All agents share this machine's cores: more agents show the cost of messages, not a speed-up.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
from transformers import AutoModelForCausalLM

from siftmoe.coordinator.air.assembly import air_interface
from siftmoe.coordinator.config.radio import RadioEntry
from siftmoe.coordinator.coordinator import Coordinator
from siftmoe.coordinator.ledger.store import Ledger
from siftmoe.coordinator.links.fixed import FixedLinks
from siftmoe.coordinator.policies.registry import make_policy
from siftmoe.coordinator.selection.problem import Budget, BudgetKind
from siftmoe.coordinator.selection.tables import unknown_tables
from siftmoe.models.tiny.files import checkpoint_dir
from siftmoe.tools.bundles import open_model
from siftmoe.tools.comparing.local_fleet import local_fleet

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from siftmoe.models.bundle.reader import Bundle

    Workload = Callable[[Any], int]

MODEL = "upcycled"
PREFILL = 128
PREFIX = 16
DECODED = 32


def prefill(batch: int) -> Workload:
    ids = torch.randint(3, 256, (batch, PREFILL), generator=torch.Generator().manual_seed(0))

    def run(model: Any) -> int:
        model(input_ids=ids)
        return ids.numel()

    return run


def decode(batch: int) -> Workload:
    """Time the steps of one token; the prefix is fed before the clock starts."""
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(3, 256, (batch, PREFIX + DECODED), generator=generator)

    def run(model: Any) -> int:
        cache = model(input_ids=ids[:, :PREFIX], use_cache=True).past_key_values
        run.began = time.perf_counter()  # type: ignore[attr-defined]
        for step in range(PREFIX, PREFIX + DECODED):
            cache = model(input_ids=ids[:, step : step + 1], past_key_values=cache).past_key_values
        return batch * DECODED

    return run


WORKLOADS: dict[str, Workload] = {
    f"prefill, {PREFILL} tokens": prefill(1),
    f"prefill, 8 x {PREFILL} tokens": prefill(8),
    "decode, 1 sequence": decode(1),
    "decode, 8 sequences": decode(8),
}


def rate(workload: Workload, model: Any) -> float:
    """Tokens per second of one run."""
    workload.began = time.perf_counter()  # type: ignore[attr-defined]
    with torch.inference_mode():
        tokens = workload(model)
    return tokens / (time.perf_counter() - workload.began)  # type: ignore[attr-defined]


@contextmanager
def distributed(bundle: Bundle, agents: int, ledger: Path) -> Iterator[Any]:
    """Yield the backbone with its experts on agents, with a ledger as in a real run."""
    shape = bundle.shape
    radio = RadioEntry(bandwidth_hz=2e6)
    with (
        local_fleet(bundle, agents) as fleet,
        Ledger.create(ledger) as book,
    ):
        coordinator = Coordinator(
            fleet=fleet.fleet,
            dispatcher=fleet.dispatcher,
            links=FixedLinks(gain=np.full(agents, 1e-7), noise_psd=4e-21, bandwidth_hz=2e6),
            air=air_interface(radio, shape),
            policy=make_policy("topk"),
            tables=unknown_tables(
                shape.num_layers,
                shape.num_experts,
                budget=Budget(kind=BudgetKind.PER_TOKEN, value=0.0),
            ),
            ledger=book,
        )
        model = bundle.load_backbone().eval()
        with coordinator.attached(model):
            yield model


def measure(counts: list[int], *, rounds: int) -> dict[str, dict[str, np.ndarray]]:
    """Rates by workload and contender, one per round."""
    bundle = open_model(MODEL)
    plain = AutoModelForCausalLM.from_pretrained(checkpoint_dir(MODEL), dtype=torch.float32).eval()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        contenders = {"undivided": plain}
        for count in counts:
            fleet = distributed(bundle, count, folder / f"{count}.sqlite")
            contenders[f"{count} agent{'s'[: count > 1]}"] = stack.enter_context(fleet)
        rates: dict[str, dict[str, list[float]]] = {
            name: {contender: [] for contender in contenders} for name in WORKLOADS
        }
        for number in range(rounds + 1):
            for name, workload in WORKLOADS.items():
                for contender, model in contenders.items():
                    found = rate(workload, model)
                    if number:  # the first round warms up
                        rates[name][contender].append(found)
    return {
        name: {contender: np.array(found) for contender, found in by.items()}
        for name, by in rates.items()
    }


def report(rates: dict[str, dict[str, np.ndarray]]) -> Iterator[str]:
    contenders = list(next(iter(rates.values())))
    yield "| tokens/s | " + " | ".join(contenders) + " |"
    yield "|---|" + "---:|" * len(contenders)
    for name, by in rates.items():
        base = by["undivided"]
        cells = [f"{np.median(base):,.0f}"]
        cells += [
            f"{np.median(by[contender]):,.0f} ({np.median(by[contender] / base):.0%})"
            for contender in contenders[1:]
        ]
        yield f"| {name} | " + " | ".join(cells) + " |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--agents", type=int, nargs="+", default=[1, 2, 4, 8])
    args = parser.parse_args()
    torch.set_num_threads(1)
    rates = measure(args.agents, rounds=args.rounds)
    print("\n".join(report(rates)))
    print(f"\nMedians of {args.rounds} rounds; in brackets the median of the ratios to undivided.")


if __name__ == "__main__":
    main()
