"""Hosts of this machine behind network links that lose and delay packets. Takes root.

A process of its own takes a network namespace of its own, in which programs are started, and
carries their packets to and from everybody else's through two TUN devices. Loss and delay are its
doing, per host and at any time anew. Nothing of it has a name: when that process and those inside
have ended, however, the kernel takes the namespace and the devices away.

Addresses are of 198.18.0.0/15, which is set aside for benchmarks (RFC 2544).
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import heapq
import json
import os
import random
import select
import shutil
import signal
import struct
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

Value = TypeVar("Value")

_CLONE_NEWNET: Final = 0x40000000
_TUNSETIFF: Final = 0x400454CA
_TUN_PLAIN_PACKETS: Final = 0x0001 | 0x1000
_MTU: Final = 1500
#: Host 0 of the namespace is .10.
_FIRST: Final = 10
_START_S: Final = 10.0


@dataclass(frozen=True, slots=True)
class Link:
    """What becomes of packets, in each direction.

    Parameters
    ----------
    loss : float
        Share that vanishes, each by chance.
    delay_s, jitter_s : float, s
        How much later they arrive, and how much that varies to either side; order is kept.
    """

    loss: float = 0.0
    delay_s: float = 0.0
    jitter_s: float = 0.0


GOOD: Final = Link()


def why_not() -> str:
    """Say what is missing here for bad links; empty if nothing is."""
    if os.geteuid() != 0:
        return "that takes root"
    if not Path("/dev/net/tun").exists():
        return "there is no /dev/net/tun"
    return "" if shutil.which("ip") else "the program ip is missing (Debian: iproute2)"


class BadLinks:
    """Runs the links while a block runs.

    Parameters
    ----------
    hosts : int
        Each with a link of its own; good ones to begin with.
    seed : int

    Raises
    ------
    OSError
        If something of `why_not` is missing, or the devices cannot be made.
    """

    def __init__(self, hosts: int, *, seed: int = 0) -> None:
        if problem := why_not():
            raise OSError(f"no bad links: {problem}")
        self._net = f"198.18.{os.getpid() % 256}"
        self.addresses = [f"{self._net}.{_FIRST + n}" for n in range(hosts)]
        settings = {"net": self._net, "hosts": hosts, "seed": seed}
        self._process = subprocess.Popen(
            [sys.executable, __file__, json.dumps(settings)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,  # an interrupt is for whoever then ends it
        )
        line = self._process.stdout.readline() if self._process.stdout else ""
        if line != "ready\n":
            self.close()
            raise OSError("no bad links: their process ended; see above what it said")
        self._namespace = os.open(f"/proc/{self._process.pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)

    def set(self, host: int, link: Link) -> None:
        """Change a host's link from now on; what is on its way arrives as it was to."""
        told = {"host": host, "link": [link.loss, link.delay_s, link.jitter_s]}
        if self._process.stdin is not None:
            self._process.stdin.write(json.dumps(told) + "\n")
            self._process.stdin.flush()

    def inside(self, function: Callable[[], Value]) -> Value:
        """Call a function behind the links: processes that it starts stay there."""
        found: list[Value] = []
        failed: list[BaseException] = []

        def enter() -> None:
            try:
                _libc("setns", self._namespace, _CLONE_NEWNET)  # of this thread alone
                found.append(function())
            except BaseException as error:  # noqa: BLE001  raised again where it was called
                failed.append(error)

        thread = threading.Thread(target=enter)
        thread.start()
        thread.join()
        if failed:
            raise failed[0]
        return found[0]

    def close(self) -> None:
        """End the links; whoever is behind them is cut off."""
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()
        self._process.wait(_START_S)
        if hasattr(self, "_namespace"):
            os.close(self._namespace)
            del self._namespace

    def __enter__(self) -> BadLinks:
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        self.close()


class _Forwarder:
    """Carries packets between two devices, each when its link lets it arrive."""

    def __init__(self, outside: int, inside: int, *, hosts: int, seed: int) -> None:
        self._outside, self._inside = outside, inside
        self._links = [GOOD] * hosts
        self._rng = random.Random(seed)
        self._waiting: list[tuple[float, int, int, bytes]] = []  # due, number, device, packet
        self._last_s: dict[tuple[int, int], float] = {}  # (host, device) -> when the last is due
        self._number = 0

    def run(self) -> None:
        """Carry packets until standard input ends."""
        told = b""
        while True:
            left_s = None
            if self._waiting:
                left_s = max(0.0, self._waiting[0][0] - time.monotonic())
            ready, _, _ = select.select([self._outside, self._inside, 0], [], [], left_s)
            for device, other in (
                (self._outside, self._inside),
                (self._inside, self._outside),
            ):
                if device in ready:
                    self._take(device, other)
            if 0 in ready:
                piece = os.read(0, 4096)
                if not piece:
                    return
                *lines, told = (told + piece).split(b"\n")
                for line in lines:
                    new = json.loads(line)
                    self._links[new["host"]] = Link(*new["link"])
            self._deliver()

    def _take(self, device: int, other: int) -> None:
        while True:
            try:
                packet = os.read(device, _MTU)
            except BlockingIOError:
                return
            if packet[0] >> 4 != 4:
                continue  # neighbours that look for IPv6
            # The host inside: who is written to from outside, who writes from inside.
            host = packet[19 if device == self._outside else 15] - _FIRST
            if not 0 <= host < len(self._links):
                continue
            link = self._links[host]
            if self._rng.random() < link.loss:
                continue
            later_s = link.delay_s + self._rng.uniform(-link.jitter_s, link.jitter_s)
            due_s = max(time.monotonic() + later_s, self._last_s.get((host, other), 0.0))
            self._last_s[host, other] = due_s
            self._number += 1
            heapq.heappush(self._waiting, (due_s, self._number, other, packet))

    def _deliver(self) -> None:
        now_s = time.monotonic()
        while self._waiting and self._waiting[0][0] <= now_s:
            _, _, device, packet = heapq.heappop(self._waiting)
            try:
                os.write(device, packet)
            except BlockingIOError:
                continue  # a full device loses packets, as any


def _libc(function: str, *arguments: int) -> None:
    library = ctypes.CDLL(None, use_errno=True)
    if getattr(library, function)(*arguments):
        number = ctypes.get_errno()
        raise OSError(number, f"{function}: {os.strerror(number)}")


def _device(name: str, addresses: list[str]) -> int:
    """Make a device here, up; it is gone when its descriptor is."""
    descriptor = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    request = struct.pack("16sH14x", name.encode(), _TUN_PLAIN_PACKETS)
    given = fcntl.ioctl(descriptor, _TUNSETIFF, request)[:16].rstrip(b"\0").decode()
    for address in addresses:
        _ip("address", "add", address, "dev", given)
    _ip("link", "set", given, "mtu", str(_MTU), "up")
    return descriptor


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True)


def main(settings: dict[str, Any]) -> int:
    """Be the process that carries packets."""
    net, hosts = settings["net"], settings["hosts"]
    outside = _device("links%d", [f"{net}.1/24"])
    _libc("unshare", _CLONE_NEWNET)
    _ip("link", "set", "lo", "up")
    inside = _device("links%d", [f"{net}.{_FIRST + n}/24" for n in range(hosts)])
    print("ready", flush=True)  # noqa: T201  the word that its parent waits for
    _Forwarder(outside, inside, hosts=hosts, seed=settings["seed"]).run()
    _end_those_inside()
    return 0


def _end_those_inside() -> None:
    """Kill who is still in this namespace: one that was stopped does not see its parent's end."""
    mine = os.readlink("/proc/self/ns/net")
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if os.readlink(process / "ns/net") == mine and int(process.name) != os.getpid():
                os.kill(int(process.name), signal.SIGKILL)


if __name__ == "__main__":
    sys.exit(main(json.loads(sys.argv[1])))
