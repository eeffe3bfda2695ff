"""``python -m siftmoe.agent``: the command ``siftmoe agent`` where only the agent is installed."""

from __future__ import annotations

import argparse
import logging
import sys

from siftmoe.agent.errors import AgentError
from siftmoe.agent.process import command
from siftmoe.models.errors import ModelError

_INTERRUPTED = 130


def main() -> int:
    """Run the agent and return the exit status: 0 stopped, 1 failed, 2 wrong usage."""
    parser = argparse.ArgumentParser(
        prog="python -m siftmoe.agent",
        description=command.__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.configure(parser)
    parser.add_argument("-v", "--verbose", action="store_true", help="log what happens to stderr")
    args = parser.parse_args()
    level = logging.DEBUG if args.verbose else logging.WARNING
    logging.basicConfig(level=level, format="%(levelname)s %(name)s: %(message)s")
    try:
        return command.run(args)
    except KeyboardInterrupt:  # while it was still loading
        return _INTERRUPTED
    except (AgentError, ModelError, OSError, ValueError) as error:
        logging.getLogger(__name__).debug("where it came from", exc_info=True)
        print(f"error: {error}", file=sys.stderr)  # noqa: T201  a process boundary
        return 1


if __name__ == "__main__":
    sys.exit(main())
