"""Run the main job on a testbed: its agents, its radios, policies compared.

The agents must be running on the addresses in the file. If the file has a [sounding] table, radios
sound every link at the start and once per coherence time, and the policies use the measured
channel. A link without a radio is simulated, and every result says so.

An agent that is missing after 20 s, or fails later, is named and left out until it works; experts
that no other hosts are replaced or skipped (docs/explanation/faults.md). --resume continues a
run that was killed; the agents need not be restarted.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from siftmoe.tools.commands.arguments import (
    add_channel_options,
    add_job_options,
    add_resume,
    add_uplink,
    links_help,
    names,
    policies_help,
)

if TYPE_CHECKING:
    import argparse

    from siftmoe.coordinator.config.entries import Testbed
    from siftmoe.tools.comparing.job import Job

SUMMARY = "run the main job on a testbed's agents and radios"


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add = parser.add_argument
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument(
        "testbed", nargs="?", metavar="TESTBED", help="TOML file: model, policy, radio, agents"
    )
    add_resume(what)
    add(
        "--policy",
        metavar="LIST",
        help="policies to compare, with commas (the file's, beside topk); " + policies_help(),
    )
    add(
        "--radio",
        choices=("auto", "simulated"),
        default="auto",
        help="simulated: simulate all links even if there are radios (auto)",
    )
    add(
        "--require-all",
        action="store_true",
        help="do not begin while an agent is missing; usually the run goes on with the others",
    )
    add("--links", metavar="NAME", help=links_help("the file's"))
    add_channel_options(parser, default="the file's")
    add_uplink(parser, default=None, usual="the file's")
    add(
        "--metrics-port",
        type=int,
        metavar="PORT",
        help="serve metrics for Prometheus on this port of this machine; 0: any (none)",
    )
    add_job_options(parser)
    parser.epilog = (
        "examples: siftmoe run testbed.toml --policy topk,siftmoe --items 20; "
        "siftmoe run --resume runs/run-1"
    )


def run(args: argparse.Namespace) -> int:
    """Run the comparison; an interrupt leaves a readable folder, and radios silent."""
    import msgspec

    from siftmoe.coordinator.config.testbed import load_testbed
    from siftmoe.coordinator.connect import placement_of
    from siftmoe.coordinator.links.sources import links_of
    from siftmoe.tools.commands.arguments import job_of
    from siftmoe.tools.comparing.comparison import compare
    from siftmoe.tools.comparing.job import at_operating_point, with_options
    from siftmoe.tools.comparing.testbed_site import testbed_site
    from siftmoe.tools.terminal.console import stderr_console
    from siftmoe.tools.watching.metrics import with_metrics

    job, before = _again(args) if args.resume else (None, None)
    testbed = load_testbed(args.testbed if job is None else job.site["testbed"])
    if job is None:
        policies = names(args.policy, "--policy") if args.policy else _usual(testbed)
        where = {
            "testbed": str(Path(args.testbed).resolve()),
            "radio": args.radio,
            "bits": args.bits,
            "downlink_bits": args.downlink_bits,
            "links": args.links,
            "air": {
                "gain_floor": args.gain_floor,
                "coherence_time_s": args.coherence,
                "deadline_per": args.deadline_per,
                "operating_point": args.operating_point,
            },
            "distances_m": [agent.distance_m for agent in testbed.agent],
            "require_all": args.require_all,
            "uplink": args.uplink,
            "sample_rate_hz": None if testbed.sounding is None else testbed.sounding.sample_rate_hz,
        }
        job = job_of(args, name="run", policies=policies, site=where)
    radio = with_options(
        testbed.radio,
        bits=job.site["bits"],
        downlink_bits=job.site["downlink_bits"],
        links=job.site.get("links"),  # a run of an older version has none
        **job.site.get("air", {}),
        uplink=job.site.get("uplink"),
    )
    testbed = msgspec.structs.replace(testbed, radio=radio)
    links_of(radio, [agent.distance_m for agent in testbed.agent])  # refused at once
    if testbed.sounding is not None and (
        outside := testbed.sounding.outside_band(radio.carrier_hz)
    ):
        stderr_console().print(f"warning: {outside}", soft_wrap=True)
    return compare(
        job,
        model=testbed.model.bundle,
        settings=partial(at_operating_point, radio),
        check=partial(placement_of, testbed.agent),
        open_site=with_metrics(
            partial(
                testbed_site,
                testbed=testbed,
                choice=job.site["radio"],
                require_all=job.site.get("require_all", False),
                realtime=job.realtime,
            ),
            args.metrics_port,
        ),
        before=before,
    )


def _again(args: argparse.Namespace) -> tuple[Job, dict[str, Any]]:
    """Return the job of a resumed run, and the configuration it was started with."""
    from siftmoe.tools.comparing.resumption import job_again, recorded, refuse_other_options

    refuse_other_options(args)
    before = recorded(args.resume, command="run")
    return job_again(before, args.resume, as_json=args.json, wide=args.wide), before


def _usual(testbed: Testbed) -> tuple[str, ...]:
    """Return the default policies: Top-K and the testbed's policy."""
    from siftmoe.coordinator.policies.spec import PolicySpec

    chosen = str(PolicySpec(testbed.policy.name, testbed.policy.options))
    return (chosen,) if chosen == "topk" else ("topk", chosen)
