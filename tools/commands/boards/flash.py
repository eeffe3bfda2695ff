"""Install the testbed's release on its boards over SSH.

For each agent with ssh = "user@host": a release is built here for the board's Python and machine
(wheels by hash, the experts of that board only, its keys, a signed manifest), and the files that
the board lacks are sent. The release is tested on the board: it must compute the golden output and
find the radio that the testbed names before the board switches to it, and answer "hello" over the
network afterwards. If it fails, the board keeps its previous release. The first board is flashed
alone, the others in batches; a failure stops the rollout.

The board's operating system is not changed; --os prints NVIDIA's command for it.
"""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import TYPE_CHECKING

from siftmoe.tools.commands.arguments import add_wide

if TYPE_CHECKING:
    import argparse

    from siftmoe.tools.flashing.rollout import Outcome
    from siftmoe.tools.flashing.site import Site

SUMMARY = "bring boards to the testbed's release over SSH"

EXAMPLE = """\
example:
  siftmoe keys testbed.toml
  siftmoe flash testbed.toml --dry-run
  siftmoe flash testbed.toml
"""

#: From NVIDIA's Jetson Linux Developer Guide (Quick Start), for a board in recovery mode.
OS_COMMAND = """\
In NVIDIA's Linux_for_Tegra folder, with the board in recovery mode on USB (Orin Nano and NX
developer kits with NVMe, JetPack 6; for others see NVIDIA's Quick Start):

  sudo ./tools/kernel_flash/l4t_initrd_flash.sh --external-device nvme0n1p1 \\
    -c tools/kernel_flash/flash_l4t_t234_nvme.xml \\
    -p "-c bootloader/generic/cfg/flash_t234_qspi.xml" \\
    --showlogs --network usb0 jetson-orin-nano-devkit internal

siftmoe never touches boot slots.
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``siftmoe flash``."""
    parser.epilog = EXAMPLE
    parser.add_argument("testbed", type=Path, nargs="?", metavar="TESTBED.toml")
    parser.add_argument("agents", nargs="*", metavar="AGENT", help="only these boards (all)")
    parser.add_argument("--dry-run", action="store_true", help="show what would change, and stop")
    parser.add_argument("--batch", type=int, default=4, metavar="N", help="boards at once (4)")
    parser.add_argument(
        "--wheels", type=Path, metavar="FOLDER", help="more wheels, as NVIDIA's onnxruntime-gpu"
    )
    parser.add_argument(
        "--adopt", action="store_true", help="take boards over from another workstation"
    )
    parser.add_argument(
        "--forget", action="store_true", help="afterwards remove the previous release and its keys"
    )
    parser.add_argument(
        "--allow-downgrade",
        action="store_true",
        help="install a release that is older than the newest one on a board",
    )
    add_ssh(parser)
    parser.add_argument("--os", action="store_true", help="print NVIDIA's command for the OS image")
    parser.add_argument("--json", action="store_true", help="print one JSON object per board")
    add_wide(parser)


def add_ssh(parser: argparse.ArgumentParser) -> None:
    """Add the option that all commands for boards share."""
    parser.add_argument(
        "--ssh-config", type=Path, metavar="FILE", help="OpenSSH configuration (~/.ssh/config)"
    )


def load_site(args: argparse.Namespace, *, wheels: Path | None = None) -> Site:
    """Read the testbed file of a command."""
    from siftmoe.tools.flashing.site import Site

    # asyncio logs a broken session once per packet; the command reports it once.
    logging.getLogger("asyncio").setLevel(logging.ERROR)
    return Site.load(args.testbed, ssh_config=args.ssh_config, wheels=wheels)


def run(args: argparse.Namespace) -> int:
    """Flash the boards; returns 0 if every board serves its release, else 1."""
    if args.os:
        print(OS_COMMAND, end="")
        return 0
    if args.testbed is None:
        raise ValueError("no testbed is given; run: siftmoe flash TESTBED.toml")
    if args.batch < 1:
        raise ValueError(f"--batch must be at least 1, got {args.batch}")
    import asyncio

    site = load_site(args, wheels=args.wheels)
    from siftmoe.tools.flashing.progress import Bars
    from siftmoe.tools.flashing.rollout import Rollout

    boards = site.boards(args.agents)
    bars = Bars([site.agent(index).name for index in boards])
    with bars:
        rollout = Rollout(
            site=site,
            report=bars,
            batch=args.batch,
            dry_run=args.dry_run,
            adopt=args.adopt,
            forget=args.forget,
            allow_downgrade=args.allow_downgrade,
        )
        outcomes = asyncio.run(rollout.run(boards))
    _print(outcomes, as_json=args.json, wide=args.wide)
    return int(any(outcome.result in ("failed", "skipped") for outcome in outcomes))


def _print(outcomes: list[Outcome], *, as_json: bool, wide: bool) -> None:
    from dataclasses import asdict

    if as_json:
        for outcome in outcomes:
            print(json.dumps(asdict(outcome)))
        return
    from siftmoe.tools.terminal.console import stdout_console
    from siftmoe.tools.terminal.tables import table

    console = stdout_console(wide=wide)
    header = ["board", "result", "release", "before", "files", "MB", "s"]
    rows = [
        [
            outcome.board,
            outcome.result,
            outcome.release,
            outcome.previous or "none",
            str(outcome.files),
            f"{outcome.num_bytes / 1e6:.1f}",
            f"{outcome.wall_s:.1f}",
        ]
        for outcome in outcomes
    ]
    console.print(table(header, rows))
    for outcome in outcomes:
        if outcome.detail:
            console.print(f"{outcome.board}: {outcome.detail}")
