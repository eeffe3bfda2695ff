"""Run the main job on this machine: agents, model, simulated fading, policies compared.

Starts agents as processes, gives each its share of the experts, runs the model with its experts
behind simulated links, answers a prompt, evaluates held-out tasks once per policy, and writes a
folder with configuration, ledger, figures and a report. No radio is needed; every energy is
modelled, and says so.
"""

from __future__ import annotations

import argparse
from pathlib import Path

SUMMARY = "run the main job on this machine, policies compared"

DEFAULT_POLICIES = "topk,topk-1,siftmoe"
DEFAULT_TASKS = "choice,perplexity"
DEFAULT_PROMPT = "Return the number of"


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add = parser.add_argument
    add("--agents", type=_count, default=8, metavar="N", help="agents to start (8)")
    add(
        "--policy",
        default=DEFAULT_POLICIES,
        metavar="LIST",
        help=f"policies to compare, with commas ({DEFAULT_POLICIES})",
    )
    add("--model", default="upcycled", help="upcycled, scratch, or a bundle's folder (upcycled)")
    add(
        "--task",
        default=DEFAULT_TASKS,
        metavar="LIST",
        help="choice, perplexity, piqa:FILE, csqa:FILE, xsum:FILE, text:FILE, with commas "
        f"({DEFAULT_TASKS})",
    )
    add("--items", type=_count, default=100, metavar="N", help="items of each task (100)")
    add("--prompt", default=DEFAULT_PROMPT, help="what to answer, streamed")
    add("--tokens", type=_count, default=40, metavar="N", help="tokens of the answer (40)")
    add(
        "--fading",
        default="rayleigh",
        choices=("rayleigh", "rician", "none"),
        help="fading of the simulated links (rayleigh)",
    )
    add("--coherence", type=_positive, default=0.1, metavar="S", help="coherence time, s (0.1)")
    add("--seed", type=int, default=0, help="of the simulated links (0)")
    add("--bandwidth", type=_positive, default=2e6, metavar="HZ", help="of one link, Hz (2e6)")
    add(
        "--deadline",
        type=_positive,
        metavar="S",
        help="airtime of a token, one direction, s (default: the paper's 0.44 bit/s/Hz)",
    )
    add(
        "--deadline-shared",
        action="store_true",
        help="the deadline is for uplink, compute and downlink together, divided as costs least",
    )
    add(
        "--fading-slots",
        type=_slots,
        default=0,
        metavar="M",
        help="fast fading: an uplink's window has M blocks of independent gain, learnt one by one; "
        "a single token is selected for again in each (0: the gain lasts)",
    )
    add(
        "--outage-price",
        type=_positive,
        default=60.0,
        metavar="X",
        help="of fast fading: price of a token that misses its window, in energies of a token at "
        "the mean gain (60)",
    )
    add("--payload", default="float16", choices=("float16", "float32"), help="on the air (float16)")
    add(
        "--downlink-price",
        type=_not_negative,
        default=0.0,
        metavar="X",
        help="price of a helper's joule over the user's in the selection (0)",
    )
    add("--batch", type=_count, default=8, metavar="N", help="sequences of one prefill (8)")
    add("--realtime", action="store_true", help="wait the airtime instead of only booking it")
    add("--audit", action="store_true", help="recompute every layer undivided, book the deviation")
    add("--json", action="store_true", help="print the results as one JSON object")
    add("--out", type=Path, metavar="FOLDER", help="where to write (runs/loopback-N)")
    parser.epilog = "example: siftmoe loopback --agents 4 --policy topk,siftmoe:tolerance=0.2"


def run(args: argparse.Namespace) -> int:
    """Run it; an interrupt leaves a readable folder and no process."""
    from siftmoe.tools.comparison import compare
    from siftmoe.tools.comparison_setup import Options

    options = Options(
        agents=args.agents,
        policies=_names(args.policy, "--policy"),
        model=args.model,
        tasks=_names(args.task, "--task"),
        items=args.items,
        prompt=args.prompt,
        answer_tokens=args.tokens,
        fading=args.fading,
        coherence_time_s=args.coherence,
        seed=args.seed,
        bandwidth_hz=args.bandwidth,
        deadline_s=args.deadline,
        deadline_shared=args.deadline_shared,
        fading_slots=args.fading_slots,
        outage_price=args.outage_price,
        payload_dtype=args.payload,
        downlink_price=args.downlink_price,
        batch_size=args.batch,
        realtime=args.realtime,
        audit=args.audit,
    )
    return compare(options, out=args.out, as_json=args.json)


def _count(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, got {value}")
    return value


def _slots(text: str) -> int:
    value = int(text)
    if not 0 <= value <= 256:
        raise argparse.ArgumentTypeError(f"must be 0 to 256, got {value}")
    return value


def _positive(text: str) -> float:
    value = float(text)
    if not 0.0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"must be positive, got {text}")
    return value


def _not_negative(text: str) -> float:
    value = float(text)
    if not 0.0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"must not be negative, got {text}")
    return value


def _names(text: str, option: str) -> tuple[str, ...]:
    names = tuple(part.strip() for part in text.split(",") if part.strip())
    if not names or len(set(names)) != len(names):
        raise ValueError(f"{option} wants different names with commas between, got {text!r}")
    return names
