"""Options that several commands share, and the types of their values."""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import TYPE_CHECKING

from siftmoe import plugins

if TYPE_CHECKING:
    from typing import Any

    from siftmoe.coordinator.selection.widths import Bits
    from siftmoe.tools.comparing.job import Job

DEFAULT_TASKS = "choice,perplexity"
DEFAULT_PROMPT = "Return the number of"
#: As `siftmoe.coordinator.air.operating_points` has them, which --help does not import either.
OPERATING_POINTS = ("mixtral-csqa", "switch-xsum")
#: As `siftmoe.coordinator.selection.widths` has them; that needs numpy, and --help is to be quick.
_WIDTHS = "2, 3, 4, 5, 6, 8, 16, 32"


#: Powers of circuits, as `siftmoe.coordinator.config.radio.RadioEntry` names them.
CIRCUITS = ("user_tx_w", "user_rx_w", "helper_tx_w", "helper_rx_w")


def add_job_options(parser: argparse.ArgumentParser) -> None:
    """Declare the options of a comparison of policies, for any fleet."""
    outside = "".join(f"{name}, " for name in sorted(plugins.installed(plugins.TASKS)))
    add = parser.add_argument
    add(
        "--task",
        default=DEFAULT_TASKS,
        metavar="LIST",
        help="choice, perplexity, piqa:FILE, csqa:FILE, xsum:FILE, text:FILE, "
        f"{outside}or package.module:Name, with commas ({DEFAULT_TASKS})",
    )
    add("--items", type=count, default=100, metavar="N", help="items of each task (100)")
    add("--prompt", default=DEFAULT_PROMPT, help="prompt to answer, streamed")
    add("--chat", action="store_true", help="put the prompt into the model's chat template")
    add("--tokens", type=count, default=40, metavar="N", help="tokens of the answer (40)")
    add("--batch", type=count, default=8, metavar="N", help="sequences of one prefill (8)")
    add("--realtime", action="store_true", help="wait the airtime instead of only booking it")
    add(
        "--bits",
        type=bits,
        metavar="B",
        help="bits of an entry on the uplink: auto (the policy chooses for each vector), or "
        f"{_WIDTHS} (16, or the testbed's)",
    )
    add(
        "--downlink-bits",
        type=bits,
        metavar="B",
        help="bits of an entry on the downlink: auto, or a number (auto where --bits is, as the "
        "uplink at 16 or 32, else 8)",
    )
    add("--audit", action="store_true", help="recompute every layer undivided, book the deviation")
    add("--json", action="store_true", help="print the results as one JSON object")
    add_wide(parser)
    add("--out", type=Path, metavar="FOLDER", help="where to write (the next free one in runs)")
    parser.set_defaults(parser=parser)


def add_channel_options(parser: argparse.ArgumentParser, *, default: str) -> None:
    """Declare what a simulated channel is like; an option that is not given is None.

    Parameters
    ----------
    parser : argparse.ArgumentParser
    default : str
        Where a setting comes from that no option gives, for the help.
    """
    add = parser.add_argument
    add(
        "--gain-floor",
        type=gain_floor,
        metavar="X",
        help="least fading gain over its mean; deeper fades are cut, 0 cuts none "
        f"({default or '0.05'})",
    )
    add(
        "--coherence",
        type=positive,
        metavar="S",
        help=f"coherence time of a simulated link, s ({default or '0.1'})",
    )
    add(
        "--deadline-per",
        choices=("token", "layer"),
        help="what the deadline is of: a token, so that a batch has the sum of its tokens' "
        f"deadlines, or a layer, whatever the batch ({default or 'token'})",
    )
    add(
        "--operating-point",
        choices=OPERATING_POINTS,
        help="setting of the paper that gives the deadline and the bandwidth, by our reading "
        f"({default or 'mixtral-csqa'})",
    )


def add_wide(parser: argparse.ArgumentParser) -> None:
    """Declare the option that prints every column of a table."""
    parser.add_argument(
        "--wide", action="store_true", help="print all columns, each row on one line"
    )


def policies_help() -> str:
    """Names of the policies, for the help of an option."""
    from siftmoe.coordinator.policies.registry import known_policies

    return f"known: {', '.join(known_policies())}; or package.module:Name"


def links_help(default: str) -> str:
    """Names of the sources of links, for the help of an option."""
    from siftmoe.coordinator.links.sources import known_sources

    known = ", ".join(known_sources())
    return f"source of the links' states: {known}, or package.module:Name ({default})"


def add_uplink(parser: argparse.ArgumentParser, *, default: str | None, usual: str) -> None:
    """Declare the option that names the medium of the uplink."""
    parser.add_argument(
        "--uplink",
        default=default,
        choices=("unicast", "tdma", "broadcast"),
        help="unicast: a band for each helper; tdma: one band, one helper after the other; "
        f"broadcast: one band, a token is sent once for all helpers that need it ({usual})",
    )


def add_resume(to: argparse._ActionsContainer) -> None:
    """Declare the option that continues a run that was killed."""
    to.add_argument(
        "--resume",
        type=Path,
        metavar="FOLDER",
        help="continue the run in this folder; finished policies are kept",
    )


def count(text: str) -> int:
    """Read a positive whole number."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, got {value}")
    return value


def bits(text: str) -> Bits:
    """Read a number of bits, or ``auto``."""
    from siftmoe.coordinator.selection.widths import parse_bits

    try:
        return parse_bits(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def slots(text: str) -> int:
    """Read a number of blocks of a window."""
    value = int(text)
    if not 0 <= value <= 256:
        raise argparse.ArgumentTypeError(f"must be 0 to 256, got {value}")
    return value


def layer_deadline(text: str) -> float:
    """Read the real-time limit of a layer, s."""
    from siftmoe.coordinator.config.entries import LEAST_DEADLINE_S, LONGEST_DEADLINE_S

    value = float(text)
    if not LEAST_DEADLINE_S <= value <= LONGEST_DEADLINE_S:
        raise argparse.ArgumentTypeError(
            f"must be {LEAST_DEADLINE_S:g} to {LONGEST_DEADLINE_S:g} s, got {text}"
        )
    return value


def positive(text: str) -> float:
    """Read a positive number."""
    value = float(text)
    if not 0.0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"must be positive, got {text}")
    return value


def not_negative(text: str) -> float:
    """Read a number that is not negative."""
    value = float(text)
    if not 0.0 <= value < math.inf:
        raise argparse.ArgumentTypeError(f"must not be negative, got {text}")
    return value


def circuit_powers(text: str) -> tuple[float, ...]:
    """Read the powers of the circuits of both ends, sending and receiving, W."""
    found = tuple(not_negative(part) for part in text.split(","))
    if len(found) != len(CIRCUITS):
        raise argparse.ArgumentTypeError(
            f"must be {len(CIRCUITS)} powers in W ({', '.join(CIRCUITS)}), got {text!r}"
        )
    return found


def gain_floor(text: str) -> float:
    """Read a least gain over the mean."""
    value = float(text)
    if not 0.0 <= value < 1.0:
        raise argparse.ArgumentTypeError(f"must be 0 to below 1, of the mean gain, got {text}")
    return value


def distances(text: str) -> str:
    """Check a text of distances; how many helpers there are is known later."""
    from siftmoe.coordinator.links.distances import parse

    try:
        parse(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    return text


def names(text: str, option: str) -> tuple[str, ...]:
    """Split a list of names; each may occur once.

    Raises
    ------
    ValueError
        If there are none, or one twice.
    """
    found = tuple(part.strip() for part in text.split(",") if part.strip())
    if not found or len(set(found)) != len(found):
        raise ValueError(f"{option} wants different names with commas between, got {text!r}")
    return found


def job_of(
    args: argparse.Namespace, *, name: str, policies: tuple[str, ...], site: dict[str, Any]
) -> Job:
    """Make a job from a command's options."""
    from siftmoe.tools.comparing.job import Job

    return Job(
        name=name,
        policies=policies,
        tasks=names(args.task, "--task"),
        items=args.items,
        prompt=args.prompt,
        chat=args.chat,
        answer_tokens=args.tokens,
        batch_size=args.batch,
        realtime=args.realtime,
        audit=args.audit,
        as_json=args.json,
        wide=args.wide,
        out=args.out,
        site=site,
    )
