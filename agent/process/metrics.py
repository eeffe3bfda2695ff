"""An agent's figures as Prometheus metrics: the same figures as in a ``stats`` reply."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from siftmoe.agent.board.power import TOTAL
from siftmoe.agent.process.exposition import Family, Samples

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from siftmoe.agent.service.requests import Service
    from siftmoe.agent.wire.messages import StatsReply

_P: Final = "siftmoe_agent_"

INFO: Final = Family(
    f"{_P}info",
    "gauge",
    "1; who the agent is and what it serves.",
    ("name", "version", "provider", "model"),
)
EXPERTS: Final = Family(f"{_P}experts", "gauge", "Experts that the agent hosts.")
POWER: Final = Family(f"{_P}power_watts", "gauge", "Power of a supply rail.", ("rail",))
BOARD_POWER: Final = Family(
    f"{_P}board_power_watts", "gauge", "Power of the rails that carry all that the board takes."
)
TEMPERATURE: Final = Family(
    f"{_P}temperature_celsius", "gauge", "Temperature of a thermal zone.", ("zone",)
)
LIMIT: Final = Family(
    f"{_P}temperature_limit_celsius",
    "gauge",
    "Lowest temperature of a zone from which the board slows down or goes off.",
    ("zone",),
)
THROTTLING: Final = Family(
    f"{_P}throttling_ratio",
    "gauge",
    "Share of the strongest measure that slows the board down now; 0 is none.",
    ("measure",),
)
REQUESTS: Final = Family(
    f"{_P}requests_total", "counter", "Requests that were up for computation.", ("outcome",)
)
REFUSALS: Final = Family(
    f"{_P}refusals_total",
    "counter",
    "Messages that were answered with an error at once, by its code.",
    ("code",),
)
UNDELIVERABLE: Final = Family(
    f"{_P}undeliverable_replies_total",
    "counter",
    "Replies whose peer was gone or did not read, by what the agent was doing.",
    ("role",),
)
CONNECTIONS: Final = Family(
    f"{_P}connections_total", "counter", "Connections that got so far.", ("stage",)
)

#: Name in a stats reply -> its family.
PLAIN: Final[dict[str, Family]] = {
    "rows": Family(f"{_P}rows_total", "counter", "Hidden vectors that were computed."),
    "batches": Family(f"{_P}batches_total", "counter", "Computations, each of one layer."),
    "compute_s": Family(f"{_P}compute_seconds_total", "counter", "Time spent computing."),
    "cpu_s": Family(f"{_P}cpu_seconds_total", "counter", "Processor time of the agent."),
    "uptime_s": Family(f"{_P}uptime_seconds", "gauge", "Time since the agent started."),
    "queued": Family(f"{_P}queue_requests", "gauge", "Requests that wait for computation."),
    "queued_bytes": Family(f"{_P}queue_bytes", "gauge", "Memory of the requests that wait."),
    "queued_clients": Family(f"{_P}queue_clients", "gauge", "Clients whose requests wait."),
    "memory_bytes": Family(f"{_P}resident_memory_bytes", "gauge", "Memory of the agent."),
    "board_memory_bytes": Family(f"{_P}board_memory_bytes", "gauge", "Memory of the board."),
    "board_memory_available_bytes": Family(
        f"{_P}board_memory_available_bytes", "gauge", "Memory of the board that can be had."
    ),
    "throttle_events": Family(
        f"{_P}throttle_events_total", "counter", "Times that the processor slowed down for heat."
    ),
    "overcurrent_events": Family(
        f"{_P}overcurrent_events_total", "counter", "Times that the board slowed for its supply."
    ),
    "board_energy_j": Family(
        f"{_P}board_energy_joules_total", "counter", "Energy that the board took."
    ),
    "idle_power_w": Family(
        f"{_P}board_idle_power_watts", "gauge", "Power of the board before the agent served."
    ),
}
#: Name in a stats reply -> a family with labels, and the label of this figure.
_LABELLED: Final[dict[str, tuple[Family, str]]] = {
    "served": (REQUESTS, "served"),
    "refused": (REQUESTS, "refused"),
    "failed": (REQUESTS, "failed"),
    "deadline_exceeded": (REQUESTS, "deadline_exceeded"),
    "connections": (CONNECTIONS, "accepted"),
    "connections_greeted": (CONNECTIONS, "greeted"),
    "admitted": (CONNECTIONS, "admitted"),
    "refused_key": (CONNECTIONS, "refused_key"),
    "handshakes_closed": (CONNECTIONS, "handshake_closed"),
    "messages_unfinished": (CONNECTIONS, "endless_message"),
    "connections_refused": (CONNECTIONS, "no_descriptor"),
}
_PREFIXES: Final[dict[str, Family]] = {"answered_": REFUSALS, "undeliverable_": UNDELIVERABLE}
_BY_LABEL: Final = (POWER, TEMPERATURE, LIMIT, THROTTLING)
_COUNTED: Final = (REQUESTS, REFUSALS, UNDELIVERABLE, CONNECTIONS)

FAMILIES: Final[tuple[Family, ...]] = (
    *(INFO, EXPERTS, BOARD_POWER),
    *_BY_LABEL,
    *_COUNTED,
    *PLAIN.values(),
)


def agent_samples(service: Service, waiting: Mapping[str, float]) -> Iterator[Samples]:
    """Yield an agent's current samples.

    Parameters
    ----------
    service : Service
    waiting : mapping
        Figures of the backlog, `Backlog.figures`.
    """
    identity, runtime = service.identity, service.runtime
    labels = (identity.name, identity.version, runtime.provider, identity.model_hash[:12])
    yield Samples(INFO, {labels: 1.0})
    yield Samples(EXPERTS, {(): float(len(runtime.residents))})
    yield from stats_samples(service.stats(0, waiting=waiting))


def stats_samples(stats: StatsReply) -> Iterator[Samples]:
    """Yield the samples of a stats reply; figures that it does not have yield none."""
    rails = {k: v for k, v in stats.power_w.items() if not k.startswith(TOTAL)}
    total = [v for k, v in stats.power_w.items() if k.startswith(TOTAL)]
    if total:
        yield Samples(BOARD_POWER, {(): total[0]})
    for family, values in zip(
        _BY_LABEL, (rails, stats.temperature_c, stats.limit_c, stats.throttling), strict=True
    ):
        yield Samples(family, {(label,): value for label, value in values.items()})
    counted: dict[Family, dict[tuple[str, ...], float]] = {family: {} for family in _COUNTED}
    for name, value in stats.counters.items():
        if name in PLAIN:
            yield Samples(PLAIN[name], {(): value})
        elif found := _labelled(name):
            counted[found[0]][found[1],] = value
    for family, by_label in counted.items():
        yield Samples(family, by_label)


def _labelled(name: str) -> tuple[Family, str] | None:
    if name in _LABELLED:
        return _LABELLED[name]
    for prefix, family in _PREFIXES.items():
        if name.startswith(prefix):
            return family, name.removeprefix(prefix)
    return None
