"""An agent that was started by another process ends with it, even if that was killed.

Linux hands out a descriptor for a process that becomes readable when the process ends; it cannot
be fooled by a reused process number, and unlike ``PR_SET_PDEATHSIG`` it means the process and not
the thread that started this one.
"""

from __future__ import annotations

import os
import select
import signal
import threading
import time
from typing import Final

#: How long an orderly end may take before the process is ended regardless.
_GRACE_S: Final = 1.5
_LOOK_EVERY_S: Final = 0.2


def end_with(pid: int) -> None:
    """End this process by SIGTERM as soon as another one ends; at once if it already has."""
    threading.Thread(target=_watch, args=(pid,), name="parent-watchdog", daemon=True).start()


def _watch(pid: int) -> None:
    try:
        _wait_for_end(pid)
    finally:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(_GRACE_S)
        os._exit(1)


def _wait_for_end(pid: int) -> None:
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    except (AttributeError, OSError):  # not Linux, or older than 5.3
        while _is_alive(pid):
            time.sleep(_LOOK_EVERY_S)
        return
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    poll.poll()


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True
