"""Runs the server on a socket until it is interrupted."""

from __future__ import annotations

import logging
import socket
from typing import TYPE_CHECKING

import uvicorn

from siftmoe.tools.serving.app import Served, make_app
from siftmoe.tools.serving.engine import Engine
from siftmoe.tools.serving.guard import LOOPBACK
from siftmoe.tools.terminal.console import stderr_console

if TYPE_CHECKING:
    from siftmoe.tools.library.deployment import Deployment

#: Time that answers in progress get after an interrupt.
_GRACE_S = 2


def serve(
    deployment: Deployment,
    *,
    name: str,
    listening: socket.socket,
    names: tuple[str, ...] = (),
    key: str | None = None,
    most_together: int = 8,
    most_waiting: int = 256,
) -> None:
    """Serve a deployment until SIGINT or SIGTERM.

    Parameters
    ----------
    deployment : Deployment
    name : str
        Of the model, for clients.
    listening : socket
        Of `listen`; closed by the caller.
    names : tuple of str
        Further host names that clients call this server by.
    key : str or None
        API key.
    most_together, most_waiting : int
        As of `Engine`.
    """
    model = served(deployment, name)
    engine = Engine(
        deployment.model,
        deployment.tokenizer,
        deployment.ledger,
        most_together=most_together,
        most_waiting=most_waiting,
    )
    host, port = listening.getsockname()[:2]
    app = make_app(engine, model, hosts=(*LOOPBACK, host, *names), key=key)
    at = f"[{host}]" if ":" in host else host
    stderr_console().print(
        f"serving {name} at http://{at}:{port}/v1 (Ctrl-C ends it)", soft_wrap=True
    )
    engine.start()
    try:
        config = uvicorn.Config(
            app, log_level=logging.WARNING, lifespan="off", timeout_graceful_shutdown=_GRACE_S
        )
        uvicorn.Server(config).run(sockets=[listening])
    finally:
        engine.close()


def served(deployment: Deployment, name: str) -> Served:
    """Tell what clients need to know of a deployment's model."""
    config = deployment.model.config
    return Served(
        name=name,
        tokenizer=deployment.tokenizer,
        context=getattr(config, "max_position_embeddings", None),
        vocabulary=config.vocab_size,
    )


def listen(host: str, port: int) -> socket.socket:
    """Listen on an address; port 0 takes a free one.

    Raises
    ------
    OSError
        If the address cannot be listened on.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((host, port))
        listening.listen()
    except OSError as error:
        listening.close()
        raise OSError(
            error.errno, f"cannot listen on {host}:{port} ({error.strerror}); try another --port"
        ) from error
    return listening
