"""Serve experts of a bundle to a coordinator.

The experts are loaded on the first of TensorRT, CUDA and CPU that computes the bundle's golden
output on this machine. When the agent is ready it prints a line "listening on ADDRESS" (with
--json: one object that holds "endpoint").
"""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
import time
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from siftmoe.agent.config import AgentConfig, select_experts
from siftmoe.agent.memory import keep_freed_memory

if TYPE_CHECKING:
    import argparse
    from pathlib import Path

    from siftmoe.agent.runtime import Runtime
    from siftmoe.agent.server import Server
    from siftmoe.agent.sounding import Soundings
    from siftmoe.models.manifest import Manifest

logger = logging.getLogger(__name__)

SUMMARY = "serve experts of a bundle"

EXAMPLE = """\
example:
  siftmoe agent --bundle model.bundle --bind tcp://127.0.0.1:5555 --experts 0:0-3,1:*
"""

_MEGA = 1e6


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the agent's options to a parser."""
    parser.epilog = EXAMPLE
    add = parser.add_argument
    add("--bundle", required=True, metavar="FOLDER", help="bundle made by 'siftmoe prepare'")
    add("--bind", metavar="ADDRESS", help="tcp://HOST:PORT or ipc://PATH (tcp://127.0.0.1:*)")
    add("--experts", metavar="LIST", help="LAYERS:EXPERTS,… with numbers, ranges, * (*:*)")
    add("--name", help="what the testbed file calls this agent (agent)")
    add("--provider", metavar="LIST", help="auto, or an order of tensorrt,cuda,cpu (auto)")
    add("--threads", type=int, metavar="N", help="threads inside one operator (every core)")
    add("--queue-limit", type=int, metavar="N", help="requests that may wait (256)")
    add("--heartbeat-ms", type=int, metavar="MS", help="between signs of life (80)")
    add("--heartbeat-timeout-ms", type=int, metavar="MS", help="when a peer is given up (300)")
    add("--key", metavar="FILE", help="this agent's keys, made by 'siftmoe keys'")
    add("--allow", metavar="FILE", help="public keys of those who may connect")
    add("--insecure", action="store_true", help="let anybody on the network in, without keys")
    add("--radio", metavar="URI", help="a Pluto for pilot exchanges: ip:HOST or usb:… (none)")
    add("--parent-pid", type=int, metavar="PID", help="end when this process ends")
    add("--json", action="store_true", help="print what was started as one JSON object")


def run(args: argparse.Namespace) -> int:
    """Serve until SIGINT or SIGTERM; returns the exit status."""
    given = {name: getattr(args, name) for name in AgentConfig.__struct_fields__ if name in args}
    given = {name: value for name, value in given.items() if value is not None}
    config = AgentConfig.from_options(given)
    if args.parent_pid is not None:
        from siftmoe.agent.lifeline import end_with

        end_with(args.parent_pid)
    keep_freed_memory()
    server, runtime, manifest = start(config)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: server.stop())
    if config.insecure:
        logger.warning(
            "--insecure: everybody who reaches %s may read and use this agent", server.endpoint
        )
    _announce(server, runtime, manifest, config=config, as_json=args.json)
    if not server.run():
        logger.warning("a computation was still running and is abandoned")
        sys.stdout.flush()
        os._exit(0)  # its thread would keep the interpreter from ending
    return 0


def start(config: AgentConfig) -> tuple[Server, Runtime, Manifest]:
    """Load the experts and bind the address.

    Raises
    ------
    AgentError, ModelError
        If a setting, the bundle, every provider or the address is unusable.
    """
    from siftmoe.agent.address import check_address
    from siftmoe.agent.keys import load_credentials
    from siftmoe.agent.providers import provider_order
    from siftmoe.agent.runtime import Runtime
    from siftmoe.agent.server import Server
    from siftmoe.agent.service import Identity, Service
    from siftmoe.agent.telemetry import Telemetry
    from siftmoe.models.manifest import Manifest

    providers = provider_order(config.provider)
    manifest = Manifest.load(config.bundle)
    residents = select_experts(
        config.experts,
        num_layers=manifest.shape.num_layers,
        num_experts=manifest.shape.num_experts,
    )
    # Before the long part:
    credentials = load_credentials(config.key, config.allow)
    check_address(config.bind, insecure=config.insecure, encrypted=credentials is not None)
    runtime = Runtime.load(manifest, residents, providers=providers, threads=config.num_threads)
    service = Service(
        runtime=runtime,
        identity=Identity(
            name=config.name,
            version=version("siftmoe"),
            model_hash=manifest.model_hash,
            radio=config.radio,
        ),
        telemetry=Telemetry(started_s=time.monotonic()),
        clock=time.monotonic,
        soundings=None if config.radio is None else _soundings(config.radio, config.name),
    )
    server = Server(
        service,
        bind=config.bind,
        insecure=config.insecure,
        credentials=credentials,
        queue_limit=config.queue_limit,
        heartbeat_ms=config.heartbeat_ms,
        heartbeat_timeout_ms=config.heartbeat_timeout_ms,
    )
    return server, runtime, manifest


def _soundings(uri: str, name: str) -> Soundings:
    from siftmoe.agent.sounding import Soundings
    from siftmoe.radio.opening import open_radio
    from siftmoe.radio.power import CalibrationStore

    calibrations = CalibrationStore.load()
    return Soundings(lambda: open_radio(uri, calibrations=calibrations), name=name)


def _announce(
    server: Server, runtime: Runtime, manifest: Manifest, *, config: AgentConfig, as_json: bool
) -> None:
    started: dict[str, Any] = {
        "endpoint": server.endpoint,
        "pid": os.getpid(),
        "name": config.name,
        "model_hash": manifest.model_hash,
        "residents": runtime.residents,
        "provider": runtime.provider,
        "encrypted": config.key is not None,
        "refused": runtime.refused,
        "threads": config.num_threads,
        "file_bytes": runtime.file_bytes,
        "memory_bytes": runtime.memory_bytes,
    }
    text = json.dumps(started) if as_json else _for_people(started, manifest.root)
    print(text, flush=True)  # noqa: T201  the line that a parent process waits for


def _for_people(started: dict[str, Any], bundle: Path) -> str:
    count = len(started["residents"])
    memory = started["memory_bytes"] / _MEGA
    lines = [
        f"agent {started['name']!r}: {count} experts of {bundle}, "
        f"{started['file_bytes'] / _MEGA:.1f} MB on disk, {memory:.1f} MB in memory "
        f"({memory / count:.2f} MB each), {started['threads']} threads",
        f"provider {started['provider']}: computes the golden output of every expert",
        *(f"  not {name}: {reason}" for name, reason in started["refused"].items()),
        "connections are " + ("encrypted" if started["encrypted"] else "not encrypted"),
        f"listening on {started['endpoint']}",
    ]
    return "\n".join(lines)
