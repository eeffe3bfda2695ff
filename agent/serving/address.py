"""Check of the address that an agent is to listen on: its form, its exposure, its use."""

from __future__ import annotations

import ipaddress
import socket
import stat
from pathlib import Path

from siftmoe.agent.errors import AddressInUse, AddressUnusable

#: A path in a Unix socket's address is at most this long (``sun_path``, with the final zero).
_MAX_IPC_PATH = 107


def check_address(bind: str, *, insecure: bool, encrypted: bool = False) -> None:
    """Refuse an address that is malformed, in use, or open to other machines without keys.

    Parameters
    ----------
    bind : str
        ``tcp://HOST:PORT`` (port ``*`` picks a free one) or ``ipc://PATH``.
    insecure : bool
        Whether an address that other machines reach is allowed without encryption.
    encrypted : bool
        Whether the agent has keys, so that such an address is safe.

    Raises
    ------
    AddressUnusable
        If it has another form, or other machines reach it with neither keys nor ``insecure``.
    AddressInUse
        If another process listens on the path of an ``ipc://`` address.
    """
    transport, separator, rest = bind.partition("://")
    if not separator or transport not in ("tcp", "ipc") or not rest:
        raise AddressUnusable(f"address {bind!r}: use tcp://HOST:PORT or ipc://PATH")
    if transport == "ipc":
        _check_path(bind, Path(rest))
    else:
        _check_host(bind, rest, open_allowed=insecure or encrypted)


def _check_host(bind: str, rest: str, *, open_allowed: bool) -> None:
    host, separator, port = rest.rpartition(":")
    if not separator or not host or not _is_port(port):
        raise AddressUnusable(f"address {bind!r}: a port is 1 to 65535, or * for any free one")
    if not open_allowed and not is_loopback(host):
        raise AddressUnusable(
            f"address {bind!r} is open to other machines, and this agent has no keys; give it "
            f"--key and --allow (see 'siftmoe keys'), listen on 127.0.0.1, or pass --insecure: "
            f"then everybody on the network may read and use it"
        )


def _is_port(text: str) -> bool:
    return text == "*" or (text.isascii() and text.isdigit() and 0 < int(text) < 1 << 16)


def is_loopback(host: str) -> bool:
    """Whether a host name or address is reachable from this machine only."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def _check_path(bind: str, path: Path) -> None:
    """Refuse a path in use: ZeroMQ would unlink the socket of a running agent and bind its own."""
    if len(bytes(path)) > _MAX_IPC_PATH:
        raise AddressUnusable(f"address {bind!r}: a path has at most {_MAX_IPC_PATH} bytes")
    if not path.exists():
        if not path.parent.is_dir():
            raise AddressUnusable(f"address {bind!r}: folder {str(path.parent)!r} does not exist")
        return
    if not stat.S_ISSOCK(path.stat().st_mode):
        raise AddressUnusable(f"address {bind!r}: a file that is no socket stands there; remove it")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            return  # a file left by an agent that was killed
        except OSError as error:
            raise AddressUnusable(f"address {bind!r}: {error.strerror}") from error
    raise AddressInUse(f"address {bind!r} is in use by another process; stop it or take another")
