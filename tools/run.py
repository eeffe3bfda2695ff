"""Run the main job on a testbed: its agents, its radios, policies compared.

The agents run already, on the addresses in the file. If the file has a [sounding] table, radios
sound every link at the start and once per coherence time, and the policies decide on what they
measured. Where no radio is found, that link is simulated, and every result says so.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from siftmoe.tools.arguments import add_job_options, names

if TYPE_CHECKING:
    import argparse

    from siftmoe.coordinator.config import Testbed

SUMMARY = "run the main job on a testbed's agents and radios"


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add = parser.add_argument
    add("testbed", metavar="TESTBED", help="TOML file: model, policy, radio, agents")
    add(
        "--policy",
        metavar="LIST",
        help="policies to compare, with commas (the file's, beside topk)",
    )
    add(
        "--radio",
        choices=("auto", "simulated"),
        default="auto",
        help="simulated asks for simulated links even where there are radios (auto)",
    )
    add_job_options(parser)
    parser.epilog = "example: siftmoe run testbed.toml --policy topk,siftmoe --items 20"


def run(args: argparse.Namespace) -> int:
    """Run it; an interrupt leaves a readable folder and silent radios."""
    from siftmoe.coordinator.config import load_testbed
    from siftmoe.coordinator.connect import placement_of
    from siftmoe.tools.comparison import compare
    from siftmoe.tools.comparison_setup import job_of
    from siftmoe.tools.testbed_site import testbed_site

    testbed = load_testbed(args.testbed)
    policies = names(args.policy, "--policy") if args.policy else _usual(testbed)
    return compare(
        job_of(args, name="run", policies=policies),
        model=testbed.model.bundle,
        settings=lambda _hidden_size: testbed.radio,
        check=partial(placement_of, testbed.agent),
        open_site=partial(testbed_site, testbed=testbed, choice=args.radio),
    )


def _usual(testbed: Testbed) -> tuple[str, ...]:
    """Return the file's policy, and what it is compared with."""
    from siftmoe.coordinator.policies.spec import PolicySpec

    chosen = str(PolicySpec(testbed.policy.name, testbed.policy.options))
    return (chosen,) if chosen == "topk" else ("topk", chosen)
