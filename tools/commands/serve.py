"""Serve a model to OpenAI clients over HTTP, its experts on agents.

TESTBED serves on the running agents and radios of a testbed. --local MODEL starts agents on this
machine behind simulated links. Clients use http://127.0.0.1:8000/v1 as base URL; every answer has a
field 'siftmoe' with its joules and decisions. Requests are decoded together. Beyond this machine an
API key is needed: put it into a file and name that with --api-key-file.
"""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from siftmoe.tools.commands.arguments import count, policies_help

if TYPE_CHECKING:
    import argparse

    from siftmoe.tools.library.deployment import Deployment

SUMMARY = "serve a model to OpenAI clients over HTTP"

#: Agents that ``--local`` starts if no number is given.
AGENTS = 4


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add = parser.add_argument
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("testbed", nargs="?", metavar="TESTBED", help="TOML file of a testbed")
    what.add_argument(
        "--local", metavar="MODEL", help="upcycled, scratch, or a bundle's folder, on this machine"
    )
    add("--agents", type=count, metavar="N", help=f"agents to start with --local ({AGENTS})")
    add(
        "--policy",
        metavar="POLICY",
        help="of all requests (the file's, or topk); " + policies_help(),
    )
    add("--host", default="127.0.0.1", help="address to listen on (127.0.0.1)")
    add("--port", type=_port, default=8000, help="0 takes a free one (8000)")
    add(
        "--name",
        action="append",
        default=[],
        metavar="HOST",
        help="a further host name that clients call this server by; may be repeated",
    )
    add("--api-key-file", type=Path, metavar="FILE", help="file with the key clients have to send")
    add("--together", type=count, default=8, metavar="N", help="requests decoded together (8)")
    add("--queue", type=count, default=256, metavar="N", help="prompts that may wait (256)")
    add("--ledger", type=Path, metavar="FILE", help="keep the books here (a temporary file)")
    parser.epilog = "example: siftmoe serve --local upcycled --policy siftmoe:loss=0.025"


def run(args: argparse.Namespace) -> int:
    """Serve until interrupted."""
    from siftmoe.tools.serving.server import listen, serve

    key = _key(args)
    with ExitStack() as resources:
        listening = resources.enter_context(listen(args.host, args.port))  # before agents start
        deployment = resources.enter_context(_open(args))
        serve(
            deployment,
            name=Path(args.local).name if args.local else deployment.bundle.root.name,
            listening=listening,
            names=tuple(args.name),
            key=key,
            most_together=args.together,
            most_waiting=args.queue,
        )
    return 0


def _open(args: argparse.Namespace) -> Deployment:
    from siftmoe.tools.library.local import local
    from siftmoe.tools.library.testbed import connect

    if args.local is None:
        if args.agents is not None:
            raise ValueError("--agents goes with --local; a testbed's agents stand in its file")
        return connect(args.testbed, policy=args.policy, ledger=args.ledger)
    return local(
        args.local,
        agents=args.agents or AGENTS,
        policy=args.policy or "topk",
        ledger=args.ledger,
    )


def _key(args: argparse.Namespace) -> str | None:
    """Read the API key.

    Raises
    ------
    ValueError
        If the file is empty, or there is no key and the address is not this machine's own.
    """
    from siftmoe.tools.serving.guard import LOOPBACK

    if args.api_key_file is None:
        if args.host not in LOOPBACK:
            raise ValueError(
                f"--host {args.host}: others can reach this address; write a key into a file and "
                f"name it with --api-key-file, or listen on 127.0.0.1"
            )
        return None
    key: str = args.api_key_file.read_text(encoding="utf-8").strip()
    if not key:
        raise ValueError(f"--api-key-file {str(args.api_key_file)!r} is empty")
    return key


def _port(text: str) -> int:
    port = int(text)
    if not 0 <= port <= 65535:
        raise ValueError(f"a port is 0 to 65535, got {port}")
    return port
