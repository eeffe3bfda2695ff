"""Show the similarity of a bundle's experts: the profile measured by `siftmoe prepare`.

Prints a line per layer and, for small models, the matrix of cosines between the experts' outputs;
--out draws all matrices into a file. docs/explanation/profile.md explains each figure.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from siftmoe.tools.commands.arguments import add_wide

if TYPE_CHECKING:
    import argparse

    from siftmoe.models.similarity.profile import Profile

SUMMARY = "show the similarity of a bundle's experts"


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    example = "example: siftmoe profile show upcycled --out similarity.svg"
    parser.epilog = example
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    show = actions.add_parser("show", help=SUMMARY, epilog=example)
    show.add_argument("bundle", metavar="BUNDLE", help="folder of a bundle, upcycled or scratch")
    show.add_argument("--out", metavar="FIGURE", help="draw the matrices: .svg, .png or .pdf")
    show.add_argument("--json", action="store_true", help="print every array as JSON")
    add_wide(show)


def run(args: argparse.Namespace) -> int:
    """Show the profile."""
    from pathlib import Path

    from siftmoe.models.similarity.file import read_profile
    from siftmoe.tools.bundles import open_with_progress
    from siftmoe.tools.results.similarity import profile_document

    if args.out is not None:
        from siftmoe.tools.plotting.profile import check_format, draw_profile

        check_format(Path(args.out))  # before a bundled model is prepared, which takes a minute
    bundle = open_with_progress(args.bundle)
    profile = read_profile(bundle.manifest)
    if args.out is not None:
        draw_profile(profile, Path(args.out))
    if args.json:
        print(json.dumps(profile_document(profile, args.out)))
        return 0
    _print(profile, title=str(bundle.root), wide=args.wide)
    if args.out is not None:
        print(f"drawn: {args.out}")
    return 0


def _print(profile: Profile, *, title: str, wide: bool) -> None:
    from siftmoe.tools.showing.profile_tables import (
        fits_terminal,
        influence_table,
        likeness_table,
        matrix,
    )
    from siftmoe.tools.terminal.console import stdout_console
    from siftmoe.tools.terminal.tables import table

    source = profile.calibration
    print(
        f"{title}: {profile.num_layers} layers of {profile.num_experts} experts, measured on "
        f"{source.num_tokens} tokens of {source.text_name}, seed {source.seed}"
    )
    console = stdout_console(wide=wide)
    console.print(table(*likeness_table(profile)))
    console.print()
    console.print(table(*influence_table(profile)))
    if fits_terminal(profile):
        for layer in range(profile.num_layers):
            console.print(matrix(profile, layer))
    else:
        print("too many experts for a terminal: draw the matrices with --out FIGURE.svg")
