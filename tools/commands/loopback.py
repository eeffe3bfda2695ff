"""Run the main job on this machine: agents, model, simulated fading, policies compared.

Starts agents as processes, gives each its share of the experts, runs the model with its experts
behind simulated links, answers a prompt, evaluates held-out tasks once per policy, and writes a
folder with configuration, ledger, figures and a report. No radio is needed; every energy is
marked as modelled.
"""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from siftmoe.tools.commands.arguments import (
    CIRCUITS,
    add_channel_options,
    add_job_options,
    add_resume,
    add_uplink,
    circuit_powers,
    count,
    distances,
    layer_deadline,
    links_help,
    names,
    not_negative,
    policies_help,
    positive,
    slots,
)

if TYPE_CHECKING:
    from typing import Any

    from siftmoe.coordinator.config.radio import RadioEntry

SUMMARY = "run the main job on this machine, policies compared"

#: Agents that are started if no number is given.
AGENTS = 8
DEFAULT_POLICIES = "topk,topk-1,siftmoe"
#: Added where the run's widths are not said.
CHOSEN_WIDTHS = "siftmoe:bits=auto"


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add = parser.add_argument
    add(
        "--agents",
        type=count,
        metavar="N",
        help=f"agents to start ({AGENTS}, or as many as a layer of the bundle has experts)",
    )
    add(
        "--policy",
        metavar="LIST",
        help=f"policies to compare, with commas ({DEFAULT_POLICIES},{CHOSEN_WIDTHS}); "
        + policies_help(),
    )
    add("--model", default="upcycled", help="upcycled, scratch, or a bundle's folder (upcycled)")
    add_job_options(parser)
    add_resume(parser)
    add(
        "--fading",
        default="rayleigh",
        choices=("rayleigh", "rician", "none"),
        help="fading of the simulated links (rayleigh)",
    )
    add_channel_options(parser, default="")
    add(
        "--distances",
        type=distances,
        metavar="LIST",
        help="of the helpers, m: one for all (20), one for each (10,20,30), or a spread from the "
        "nearest to the farthest (10:40) (20)",
    )
    add("--seed", type=int, default=0, help="of the simulated links (0)")
    add("--links", default="simulated", metavar="NAME", help=links_help("simulated"))
    add(
        "--bandwidth",
        type=positive,
        metavar="HZ",
        help="of one link, Hz (that of the operating point: 2e6)",
    )
    add_uplink(parser, default="unicast", usual="unicast")
    add(
        "--deadline",
        type=positive,
        metavar="S",
        help="airtime of a token, or of a layer, one direction, s (that of the operating point, "
        "scaled to the model: 0.44 bit/s/Hz)",
    )
    add(
        "--deadline-shared",
        action="store_true",
        help="the deadline covers uplink, compute and downlink, divided at least energy",
    )
    add(
        "--fading-slots",
        type=slots,
        default=0,
        metavar="M",
        help="fast fading: an uplink window has M blocks of independent gain, known one by one; "
        "the helper of a single token is selected again in each (0: constant gain)",
    )
    add(
        "--outage-price",
        type=positive,
        default=60.0,
        metavar="X",
        help="fast fading: price of a token that misses its window, in energies of a token at "
        "the mean gain (60)",
    )
    add(
        "--layer-deadline",
        type=layer_deadline,
        default=30.0,
        metavar="S",
        help="real time after which a layer continues without missing results, s (30)",
    )
    add(
        "--minimise",
        default="total",
        choices=("total", "radiated", "user", "helpers"),
        help="what the selection minimises: all energy of both directions, what is radiated of it, "
        "or what one side's batteries give (total)",
    )
    for side, whose in (("uplink", "the user's"), ("downlink", "a helper's")):
        add(
            f"--{side}-price",
            type=not_negative,
            metavar="X",
            help=f"price of {whose} joule in the selection (as --minimise has it: 1 or 0)",
        )
    add(
        "--circuit-power",
        type=circuit_powers,
        default=(0.0,) * len(CIRCUITS),
        metavar="W,W,W,W",
        help="power that circuits take during a burst, beside what is radiated: of the user "
        "sending and receiving, of a helper sending and receiving, W (0,0,0,0: not counted)",
    )
    add(
        "--no-control",
        action="store_true",
        help="leave headers, experts and weights out of the bursts, as the papers do",
    )
    parser.epilog = "example: siftmoe loopback --agents 4 --policy topk,siftmoe:tolerance=0.2"


def _usual(args: argparse.Namespace) -> str:
    """Return the policies that are compared by default."""
    return DEFAULT_POLICIES if args.bits else f"{DEFAULT_POLICIES},{CHOSEN_WIDTHS}"


def _operating_point(args: argparse.Namespace) -> dict[str, Any]:
    """Bandwidth and deadline: as asked for, else those of the operating point."""
    from siftmoe.coordinator.air.operating_points import MIXTRAL_CSQA, OPERATING_POINTS

    if args.operating_point and args.deadline is not None:
        raise ValueError(
            f"--operating-point {args.operating_point} and --deadline {args.deadline:g} both set "
            f"the deadline; leave out one of them"
        )
    point = OPERATING_POINTS[args.operating_point or MIXTRAL_CSQA.name]
    return {
        "deadline_s": args.deadline,
        "bandwidth_hz": point.bandwidth_hz if args.bandwidth is None else args.bandwidth,
        "operating_point": point.name,
    }


def _channel(args: argparse.Namespace) -> dict[str, Any]:
    """Keys of the channel that options give."""
    said = {
        "gain_floor": args.gain_floor,
        "coherence_time_s": args.coherence,
        "deadline_per": args.deadline_per,
    }
    return {key: value for key, value in said.items() if value is not None}


def _num_agents(args: argparse.Namespace) -> int:
    """Agents to start: as asked for, else the usual number if each of them gets an expert."""
    from siftmoe.models.bundle.manifest import MANIFEST_NAME, Manifest

    if args.agents is not None:
        return int(args.agents)
    if (Path(args.model) / MANIFEST_NAME).is_file():
        return min(AGENTS, Manifest.load(args.model).shape.num_experts)
    return AGENTS


def run(args: argparse.Namespace) -> int:
    """Run the comparison; an interrupt leaves a readable folder and no process."""
    from siftmoe.coordinator.links.distances import distances_of
    from siftmoe.coordinator.links.sources import links_of
    from siftmoe.tools.commands.arguments import job_of
    from siftmoe.tools.comparing.comparison import compare
    from siftmoe.tools.comparing.job import simulated_radio
    from siftmoe.tools.comparing.local_fleet import check_agents
    from siftmoe.tools.comparing.local_site import DISTANCE_M, local_site
    from siftmoe.tools.comparing.resumption import (
        job_again,
        radio_of,
        recorded,
        refuse_other_options,
    )

    before = None
    if args.resume:
        refuse_other_options(args)
        before = recorded(args.resume, command="loopback")
        job = job_again(before, args.resume, as_json=args.json, wide=args.wide)
    else:
        agents = _num_agents(args)
        job = job_of(
            args,
            name="loopback",
            policies=names(args.policy or _usual(args), "--policy"),
            site={
                "agents": agents,
                "model": args.model,
                "layer_deadline_s": args.layer_deadline,
                "distances_m": distances_of(args.distances or f"{DISTANCE_M}", agents),
            },
        )
    # older runs do not record where the helpers stand
    distances_m = job.site.get("distances_m", [DISTANCE_M] * job.site["agents"])

    def settings(hidden_size: int) -> RadioEntry:
        if before is not None:
            return radio_of(before)
        radio = simulated_radio(
            hidden_size,
            **_operating_point(args),
            uplink=args.uplink,
            fading=args.fading,
            fading_slots=args.fading_slots,
            outage_price=args.outage_price,
            deadline_shared=args.deadline_shared,
            **_channel(args),
            seed=args.seed,
            bits=16 if args.bits is None else args.bits,
            downlink_bits=args.downlink_bits,
            minimise=args.minimise,
            uplink_price=args.uplink_price,
            downlink_price=args.downlink_price,
            links=args.links,
            control=not args.no_control,
            **dict(zip(CIRCUITS, args.circuit_power, strict=True)),
        )
        links_of(radio, distances_m)  # refused before an agent starts
        return radio

    return compare(
        job,
        model=job.site["model"],
        settings=settings,
        check=partial(check_agents, num_agents=job.site["agents"]),
        open_site=partial(
            local_site,
            num_agents=job.site["agents"],
            layer_deadline_s=job.site.get("layer_deadline_s", 30.0),  # older runs do not record it
            realtime=job.realtime,
            distances_m=distances_m,
        ),
        before=before,
    )
