"""SSH addresses of boards: user, host and port, with IPv6 and its scope."""

from __future__ import annotations

from dataclasses import dataclass

from siftmoe.tools.flashing.errors import ReleaseError

_PORTS = range(1, 65536)


@dataclass(frozen=True, slots=True)
class SshAddress:
    """Where to log in; None leaves the choice to the OpenSSH configuration."""

    host: str
    user: str | None = None
    port: int | None = None

    @classmethod
    def parse(cls, text: str) -> SshAddress:
        """Read ``[user@]host[:port]``.

        An IPv6 host stands in brackets if a port follows: ``root@[fe80::1%usb0]:2222``; without a
        port the brackets may be left out: ``root@fe80::1%usb0``.

        Raises
        ------
        ReleaseError
            If there is no host, or the port is no port.
        """
        user, at, rest = text.rpartition("@")
        if rest.startswith("["):
            host, closed, after = rest[1:].partition("]")
            port = after.removeprefix(":") if closed and after != ":" else after
            wrong = not closed or (after and not after.startswith(":"))
        else:
            several = rest.count(":") > 1
            host, colon, port = (rest, "", "") if several else rest.partition(":")
            wrong = bool(colon and not port)
        if wrong or not host or (at and not user) or (port and not _is_port(port)):
            raise ReleaseError(
                f"ssh = {text!r} is no SSH address; write user@host, user@host:port, or "
                f"user@[fe80::1%usb0]:port"
            )
        return cls(host=host, user=user or None, port=int(port) if port else None)


def _is_port(text: str) -> bool:
    return text.isascii() and text.isdigit() and int(text) in _PORTS
