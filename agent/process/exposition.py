"""HTTP server for figures in Prometheus' text format, for agents and coordinators.

Metric families are declared in tables, separately from the source of their values, so that a
dashboard can be checked against them. An unknown figure has no sample: Prometheus distinguishes
"absent" from 0.

Everybody who reaches the port can read the figures; nothing can be changed through it, and it is
not encrypted. So the default address is loopback.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

from siftmoe.agent.errors import AddressUnusable, ConfigError

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from wsgiref.simple_server import WSGIServer

    from prometheus_client.core import Metric

logger = logging.getLogger(__name__)

LOOPBACK: Final = "127.0.0.1"


class Family(NamedTuple):
    """Description of a figure: name, kind, help text and labels.

    Parameters
    ----------
    name : str
        Includes the unit; the name of a counter ends in ``_total``.
    kind : "counter" or "gauge"
    text : str
    labels : tuple of str
    """

    name: str
    kind: Literal["counter", "gauge"]
    text: str
    labels: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Samples:
    """Values of one family by label values."""

    family: Family
    values: Mapping[tuple[str, ...], float] = field(default_factory=dict)


class Exposition:
    """An HTTP server on threads of its own, until closed.

    Parameters
    ----------
    collect : callable
        Returns all samples; called on the server's threads, once per HTTP request.
    port : int
        0 takes any free port.
    host : str
        Address to listen at.

    Raises
    ------
    ConfigError
        If prometheus-client is not installed.
    AddressUnusable
        If the address cannot be bound.
    """

    def __init__(
        self, collect: Callable[[], Iterable[Samples]], *, port: int, host: str = LOOPBACK
    ) -> None:
        try:
            from prometheus_client import CollectorRegistry, start_http_server
        except ModuleNotFoundError as error:
            raise ConfigError(
                "metrics need prometheus-client, which is not installed: "
                "pip install 'siftmoe[metrics]'"
            ) from error
        registry = CollectorRegistry(auto_describe=False)
        registry.register(_Collector(collect))
        self._server: WSGIServer
        self._thread: threading.Thread
        try:
            self._server, self._thread = start_http_server(port, host, registry)
        except OSError as error:
            raise AddressUnusable(
                f"metrics: {host}:{port} cannot be bound: {error.strerror}; take another port, or "
                f"0 for any"
            ) from error
        shown = f"[{host}]" if ":" in host else host
        #: URL of the figures.
        self.url = f"http://{shown}:{self._server.server_port}/metrics"

    def close(self) -> None:
        """Stop the server."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class _Collector:
    """Collector of prometheus-client that converts samples to its metric families."""

    def __init__(self, collect: Callable[[], Iterable[Samples]]) -> None:
        self._collect = collect

    def collect(self) -> Iterator[Metric]:
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

        kinds = {"counter": CounterMetricFamily, "gauge": GaugeMetricFamily}
        for samples in self._collect():
            family = samples.family
            metric = kinds[family.kind](family.name, family.text, labels=family.labels)
            for labels, value in samples.values.items():
                metric.add_metric(labels, value)
            yield metric
