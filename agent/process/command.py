"""Serve experts of a bundle to a coordinator.

The experts are loaded on the first of TensorRT, CUDA and CPU that computes the bundle's golden
output on this machine. When the agent is ready it prints a line "listening on ADDRESS" (with
--json: one object that holds "endpoint").
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import signal
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from siftmoe.agent.compute.memory import keep_freed_memory
from siftmoe.agent.config import AgentConfig, select_experts
from siftmoe.agent.security.descriptors import raise_limit
from siftmoe.agent.serving.notify import Supervisor

if TYPE_CHECKING:
    from siftmoe.agent.board.power import BoardPower
    from siftmoe.agent.service.requests import Service
    from siftmoe.agent.service.sounding import Soundings
    from siftmoe.agent.serving.server import Server
    from siftmoe.models.bundle.manifest import Manifest

logger = logging.getLogger(__name__)

SUMMARY = "serve experts of a bundle"

EXAMPLE = """\
example:
  siftmoe agent --bundle model.bundle --bind tcp://127.0.0.1:5555 --experts 0:0-3,1:*
"""

_MEGA = 1e6
_PACKED_BY = {"compiled": "compiled code", "numpy": "numpy"}
#: Environment variable with the release that was flashed.
RELEASE_VARIABLE = "SIFTMOE_RELEASE"


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
    add("--key", metavar="FILE", help="this agent's keys, made by 'siftmoe keys'")
    add("--allow", metavar="FILE", help="public keys of those who may connect")
    add("--insecure", action="store_true", help="admit every peer on the network, without keys")
    add("--radio", metavar="URI", help="a Pluto for pilot exchanges: ip:HOST or usb:… (none)")
    add("--widths", metavar="LIST", help="bits per entry of vectors accepted and sent (all)")
    add("--packing", metavar="CODE", help="auto, compiled (needs numba) or numpy (auto)")
    add(
        "--idle-s",
        type=float,
        metavar="S",
        help="how long to measure the idle board's power; 0: not at all (3)",
    )
    add("--sysfs", metavar="FOLDER", help=argparse.SUPPRESS)
    add(
        "--metrics-port",
        type=int,
        metavar="PORT",
        help="serve metrics for Prometheus; 0: any port (none)",
    )
    add("--metrics-host", metavar="HOST", help="address of that port (127.0.0.1)")
    add("--check", action="store_true", help="load and prove the experts, report it and end")
    add("--parent-pid", type=int, metavar="PID", help="end when this process ends")
    add("--json", action="store_true", help="print what was started as one JSON object")


def run(args: argparse.Namespace) -> int:
    """Serve until SIGINT or SIGTERM and return the exit status."""
    given = {name: getattr(args, name) for name in AgentConfig.__struct_fields__ if name in args}
    given = {name: value for name, value in given.items() if value is not None}
    config = AgentConfig.from_options(given)
    if args.parent_pid is not None:
        from siftmoe.agent.process.parent_watchdog import end_with

        end_with(args.parent_pid)
    if args.check:  # an agent that serves now may use the address
        config = msgspec.structs.replace(
            config, bind="tcp://127.0.0.1:*", insecure=False, idle_s=0.0, metrics_port=None
        )
    keep_freed_memory()
    raise_limit()
    server, service, manifest = start(config)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: server.stop())
    supervisor = Supervisor()
    if config.insecure:
        logger.warning(
            "--insecure: everybody who reaches %s may read and use this agent", server.endpoint
        )
    metrics = _metrics(config, server, service)
    _announce(server, service, manifest, config=config, metrics=metrics, as_json=args.json)
    if args.check:
        server.stop()
    else:
        supervisor.ready(f"serves {len(service.runtime.residents)} experts at {server.endpoint}")
    clean = server.run(supervisor)
    supervisor.stopping()
    supervisor.close()
    if not clean:
        logger.warning("a computation was still running and is abandoned")
        sys.stdout.flush()
        os._exit(0)  # the computing thread would keep the interpreter from ending
    return 0


def start(config: AgentConfig) -> tuple[Server, Service, Manifest]:
    """Load the experts and bind the address.

    Raises
    ------
    AgentError, ModelError
        If a setting, the bundle, every provider or the address is unusable.
    """
    from siftmoe.agent.board.heat import Thermometer
    from siftmoe.agent.compute.providers import load_onnxruntime, provider_order
    from siftmoe.agent.compute.runtime import Runtime
    from siftmoe.agent.security.keys import load_credentials
    from siftmoe.agent.service.requests import Identity, Service
    from siftmoe.agent.service.telemetry import Telemetry
    from siftmoe.agent.serving.address import check_address
    from siftmoe.agent.serving.server import Server
    from siftmoe.models.bundle.manifest import Manifest
    from siftmoe.models.vectors.fused import choose

    providers = provider_order(config.provider)
    load_onnxruntime()  # before the hashes of all files, if it is missing
    manifest = Manifest.load(config.bundle)
    residents = select_experts(
        config.experts,
        num_layers=manifest.shape.num_layers,
        num_experts=manifest.shape.num_experts,
    )
    # Settings are checked before the experts are loaded, which takes longest.
    widths = config.width_list()
    credentials = load_credentials(config.key, config.allow)
    check_address(config.bind, insecure=config.insecure, encrypted=credentials is not None)
    choose(config.packing)
    runtime = Runtime.load(manifest, residents, providers=providers, threads=config.num_threads)
    service = Service(
        runtime=runtime,
        identity=Identity(
            name=config.name,
            version=_version(),
            model_hash=manifest.model_hash,
            radio=config.radio,
        ),
        telemetry=Telemetry(started_s=time.monotonic()),
        clock=time.monotonic,
        soundings=None if config.radio is None else _soundings(config.radio, config.name),
        board=_board(config),
        thermometer=Thermometer(Path(config.sysfs), clock=time.monotonic),
        widths=widths,
    )
    server = Server(
        service,
        bind=config.bind,
        insecure=config.insecure,
        credentials=credentials,
        queue_limit=config.queue_limit,
    )
    return server, service, manifest


def _version() -> str:
    """Return the version of siftmoe, with the flashed release if there is one."""
    release = os.environ.get(RELEASE_VARIABLE)
    return f"{version('siftmoe')}+{release}" if release else version("siftmoe")


def _soundings(uri: str, name: str) -> Soundings:
    from siftmoe.agent.service.sounding import Soundings
    from siftmoe.radio.opening import open_radio
    from siftmoe.radio.power.store import CalibrationStore

    calibrations = CalibrationStore.load()
    return Soundings(lambda: open_radio(uri, calibrations=calibrations), name=name)


def _board(config: AgentConfig) -> BoardPower | None:
    """Measure the idle power and start sampling; None if the board has no sensors."""
    from siftmoe.agent.board.power import BoardPower
    from siftmoe.agent.board.rails import find_board

    board = find_board(Path(config.sysfs)) if config.idle_s else None
    if board is None:
        return None
    power = BoardPower(board, clock=time.monotonic)
    if power.measure_idle(config.idle_s) is None:
        return None
    power.start()
    return power


def _metrics(config: AgentConfig, server: Server, service: Service) -> str | None:
    """Serve metrics until the process ends and return their URL."""
    if config.metrics_port is None:
        return None
    from siftmoe.agent.process.exposition import Exposition
    from siftmoe.agent.process.metrics import agent_samples
    from siftmoe.agent.serving.address import is_loopback

    exposition = Exposition(
        lambda: agent_samples(service, server.waiting()),
        port=config.metrics_port,
        host=config.metrics_host,
    )
    if not is_loopback(config.metrics_host):
        logger.warning("everybody on the network may read %s", exposition.url)
    return exposition.url


def _announce(
    server: Server,
    service: Service,
    manifest: Manifest,
    *,
    config: AgentConfig,
    metrics: str | None,
    as_json: bool,
) -> None:
    from siftmoe.models.vectors.fused import active_packing

    runtime = service.runtime
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
        "packing": active_packing(),
        "file_bytes": runtime.file_bytes,
        "memory_bytes": runtime.memory_bytes,
        "board": None if service.board is None else service.board.summary(),
        "metrics": metrics,
    }
    text = json.dumps(started) if as_json else _as_text(started, manifest.root)
    print(text, flush=True)  # noqa: T201  the line that a parent process waits for


def _board_lines(board: dict[str, Any] | None) -> list[str]:
    if board is None:
        return []
    watt = f"{board['idle_power_w']:.3f} ± {board['idle_power_std_w']:.3f} W"
    return [f"board idles at {watt} ({board['rails']})"]


def _as_text(started: dict[str, Any], bundle: Path) -> str:
    count = len(started["residents"])
    memory = started["memory_bytes"] / _MEGA
    lines = [
        f"agent {started['name']!r}: {count} experts of {bundle}, "
        f"{started['file_bytes'] / _MEGA:.1f} MB on disk, {memory:.1f} MB in memory "
        f"({memory / count:.2f} MB each), {started['threads']} threads",
        f"provider {started['provider']}: computes the golden output of every expert",
        *(f"  not {name}: {reason}" for name, reason in started["refused"].items()),
        f"vectors are packed by {_PACKED_BY[started['packing']]}",
        "connections are " + ("encrypted" if started["encrypted"] else "not encrypted"),
        *_board_lines(started["board"]),
        *([f"metrics at {started['metrics']}"] if started["metrics"] else []),
        f"listening on {started['endpoint']}",
    ]
    return "\n".join(lines)
