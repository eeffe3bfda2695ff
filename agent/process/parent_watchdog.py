"""Parent watchdog: ends this process when its parent process has ended, even if it was killed.

It waits on a pidfd of Linux, a descriptor that becomes readable when its process ends. Unlike a
process number it is never reused for another process, and unlike ``PR_SET_PDEATHSIG`` it refers to
the parent process and not to the thread that started this one.
"""

from __future__ import annotations

import os
import select
import signal
import threading
import time
from typing import Final

#: Time for an orderly end before the process is ended by force.
_GRACE_S: Final = 1.5
_LOOK_EVERY_S: Final = 0.2


def end_with(pid: int) -> None:
    """Send SIGTERM to this process as soon as process ``pid`` ends; at once if it has ended."""
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
    except (AttributeError, OSError):  # not Linux, or a kernel older than 5.3
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
