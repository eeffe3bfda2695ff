"""Entry point of the ``siftmoe`` command: dispatches to one module per subcommand.

Every subcommand is a module of `siftmoe.tools.commands` with ``SUMMARY``, ``configure(parser)``
and ``run(args)``. Only the module of the given subcommand is imported, so that ``--help`` is fast.
"""

from __future__ import annotations

import argparse
import atexit
import gc
import importlib
import logging
import os
import sys
from importlib.metadata import version
from typing import TYPE_CHECKING

from siftmoe.tools.terminal.text import readable

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import ModuleType

#: Subcommand -> (module in this package, summary). The summaries stand here so that ``--help``
#: imports no subcommand.
COMMANDS: dict[str, tuple[str, str]] = {
    "loopback": ("commands.loopback", "run the main job on this machine, policies compared"),
    "run": ("commands.run", "run the main job on a testbed's agents and radios"),
    "serve": ("commands.serve", "serve a model to OpenAI clients over HTTP"),
    "prepare": ("commands.prepare", "split a checkpoint into a backbone and ONNX experts"),
    "profile": ("commands.profile", "show the similarity of a bundle's experts"),
    "place": ("commands.place", "choose which agent of a testbed hosts which expert"),
    "agent": ("commands.agent", "serve experts of a bundle"),
    "keys": (
        "commands.boards.keys",
        "make the CURVE keys of a testbed's agents and coordinator",
    ),
    "flash": ("commands.boards.flash", "bring boards to the testbed's release over SSH"),
    "status": ("commands.boards.status", "show the state of a testbed's agents and boards"),
    "rollback": ("commands.boards.rollback", "switch boards back to the previous release"),
    "logs": ("commands.boards.logs", "show the log of an agent on a board"),
    "unflash": ("commands.boards.unflash", "remove siftmoe from boards"),
    "solve": ("commands.solve", "solve selection instances, with proof"),
    "experiment": ("commands.experiment", "rerun a study over policies and seeds"),
    "radio": ("commands.radio.group", "look for radios, sound a link, calibrate, emulate"),
    "ledger": ("commands.ledger", "sum up a run's energy by source, with uncertainties"),
    "report": ("commands.report", "rebuild the report of a run from its ledger"),
    "doctor": ("commands.doctor", "list what is missing on this machine and how to install it"),
}

#: Subcommand -> what it does in the first seconds.
_SLOW = {
    **dict.fromkeys(
        ("loopback", "run", "serve", "prepare", "profile", "experiment"),
        "loading PyTorch and Transformers",
    ),
    **dict.fromkeys(("solve", "place"), "loading compiled code"),
    "agent": "loading and testing the experts",
    "status": "asking agents and boards",
    **dict.fromkeys(("flash", "rollback", "logs", "unflash"), "logging in"),
}

_OK, _FAILED, _USAGE, _INTERRUPTED = 0, 1, 2, 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status (0 done, 1 failed, 2 wrong usage)."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    name = next((a for a in arguments if not a.startswith("-")), None)
    if name not in COMMANDS or arguments[0].startswith("-"):
        return _without_command(arguments)
    try:
        module = importlib.import_module(f"siftmoe.tools.{COMMANDS[name][0]}")
        parser = _command_parser(name, module)
        args = parser.parse_args(arguments[1:])
        _configure_logging(args.verbose)
        # Python's last garbage collection would take seconds over torch's objects after a Ctrl-C.
        atexit.register(gc.freeze)
        _announce(name)
        return _guarded(module, args)
    except ImportError as error:
        return _without_package(error)


def _announce(name: str) -> None:
    """Say on a terminal at once what takes seconds."""
    if name in _SLOW and sys.stderr.isatty():
        print(f"siftmoe {name}: {_SLOW[name]}", file=sys.stderr, flush=True)


def _without_package(error: ImportError) -> int:
    """Turn a missing package into a line that names its extra; other errors keep their traceback.

    Raises
    ------
    ImportError
        If the package is none of an extra's.
    """
    from siftmoe.tools.installation.missing import way_out

    said = way_out(error)
    if said is None:
        raise error
    print(f"error: {said}", file=sys.stderr)
    return _FAILED


def _command_parser(name: str, module: ModuleType) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=f"siftmoe {name}",
        description=module.__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    module.configure(parser)
    parser.add_argument("-v", "--verbose", action="store_true", help="log what happens to stderr")
    return parser


def _without_command(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="siftmoe",
        description="Energy-aware mixture-of-experts inference over wireless helpers.",
        epilog="Try: siftmoe loopback --agents 4 --prompt 'Return the sum of'",
    )
    parser.add_argument("--version", action="version", version=f"siftmoe {version('siftmoe')}")
    subparsers = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, (_, summary) in COMMANDS.items():
        subparsers.add_parser(name, help=summary)
    parser.parse_args(arguments or ["--help"])
    return _USAGE


def _configure_logging(verbose: bool) -> None:
    level = logging.DEBUG if verbose else logging.WARNING
    logging.basicConfig(level=level, format="%(levelname)s %(name)s: %(message)s")
    for noisy in ("matplotlib", "numba", "urllib3", "filelock", "PIL", "fsspec"):
        logging.getLogger(noisy).setLevel(logging.WARNING)


def _guarded(module: ModuleType, args: argparse.Namespace) -> int:
    """Run a command; an expected error becomes one line, an unexpected one keeps its traceback."""
    try:
        status: int = module.run(args)
        sys.stdout.flush()  # a closed pipe raises here, not when Python exits
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return _INTERRUPTED
    except BrokenPipeError:
        # output that is still buffered goes to /dev/null
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _FAILED
    except _expected_errors() as error:
        print(f"error: {readable(str(error))}", file=sys.stderr)
        if args.verbose:
            logging.getLogger(__name__).debug("traceback of the error", exc_info=True)
        return _FAILED
    return status


def _expected_errors() -> tuple[type[BaseException], ...]:
    from siftmoe.agent.errors import AgentError
    from siftmoe.coordinator.errors import CoordinatorError
    from siftmoe.models.errors import ModelError
    from siftmoe.radio.errors import RadioError
    from siftmoe.tools.flashing.errors import FlashError

    return (AgentError, CoordinatorError, FlashError, ModelError, RadioError, ValueError, OSError)


if __name__ == "__main__":
    sys.exit(main())
