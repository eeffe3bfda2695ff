"""Lets in what is meant for this server: its hosts, its own pages, holders of its key.

A web page that a user visits can send requests to a server on the same machine (cross-site request
forgery), and can make its own host name resolve to it (DNS rebinding). Both name a host or an
origin that is not ours, and are refused.
"""

from __future__ import annotations

import hmac
import json
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from siftmoe.tools.serving.answers import error_body

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, MutableMapping

    Scope = MutableMapping[str, Any]
    Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
    Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

LOOPBACK = ("localhost", "127.0.0.1", "::1")
#: Of a request's body.
MOST_BYTES = 4 << 20


class _Refused(Exception):
    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Guard:
    """ASGI middleware in front of the routes.

    Parameters
    ----------
    app : ASGI application
    hosts : tuple of str
        Names and addresses by which clients may call this server, without port.
    key : str or None
        That requests have to hold as ``Authorization: Bearer KEY``.
    """

    def __init__(self, app: Any, *, hosts: tuple[str, ...], key: str | None) -> None:
        self._app = app
        self._hosts = {host.lower() for host in hosts}
        self._key = key

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        try:
            self._check(scope)
            await self._app(scope, _bounded(receive), send)
        except _Refused as refused:
            await _answer(send, refused)

    def _check(self, scope: Scope) -> None:
        if scope["type"] != "http":
            raise _Refused(400, "this server speaks HTTP only")
        headers = _headers(scope)
        host = _name(f"//{headers.get('host', '')}")
        if host not in self._hosts:
            raise _Refused(403, f"host {host!r} is not this server's; it has {sorted(self._hosts)}")
        origin = headers.get("origin")
        if origin is not None and origin != "null" and _name(origin) not in self._hosts:
            raise _Refused(403, f"origin {origin!r} is not this server's")
        if origin == "null":
            raise _Refused(403, "a page without an origin may not call this server")
        if int(headers.get("content-length", "0") or 0) > MOST_BYTES:
            raise _Refused(413, f"a request has at most {MOST_BYTES} bytes")
        if self._key is not None:
            given = headers.get("authorization", "").removeprefix("Bearer ")
            if not hmac.compare_digest(given.encode(), self._key.encode()):
                raise _Refused(401, "wrong API key; send it as 'Authorization: Bearer KEY'")


def _headers(scope: Scope) -> dict[str, str]:
    headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
    length = headers.get("content-length")
    if length is not None and not length.isdecimal():
        raise _Refused(400, f"content-length {length!r} is no number")
    return headers


def _name(url: str) -> str:
    try:
        return (urlsplit(url).hostname or "").lower()
    except ValueError:
        return ""


def _bounded(receive: Receive) -> Receive:
    """Count the bytes of a body that does not say its length."""
    taken = 0

    async def counted() -> MutableMapping[str, Any]:
        nonlocal taken
        message = await receive()
        taken += len(message.get("body", b""))
        if taken > MOST_BYTES:
            raise _Refused(413, f"a request has at most {MOST_BYTES} bytes")
        return message

    return counted


async def _answer(send: Send, refused: _Refused) -> None:
    kind = "authentication_error" if refused.status == 401 else "invalid_request_error"
    body = json.dumps(error_body(str(refused), kind=kind)).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": refused.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
