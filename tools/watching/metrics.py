"""Serves the metrics of a running comparison to Prometheus."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from siftmoe.agent.process.exposition import Exposition
from siftmoe.coordinator.fleet.agents import Fleet
from siftmoe.coordinator.ledger.metrics import LedgerMetrics, fleet_samples
from siftmoe.tools.terminal.console import stderr_console

if TYPE_CHECKING:
    from collections.abc import Iterator

    from siftmoe.agent.process.exposition import Samples
    from siftmoe.coordinator.config.radio import RadioEntry
    from siftmoe.coordinator.ledger.store import Ledger
    from siftmoe.models.bundle.reader import Bundle
    from siftmoe.tools.comparing.comparison import OpenSite
    from siftmoe.tools.comparing.site import Site


def with_metrics(open_site: OpenSite, port: int | None) -> OpenSite:
    """Serve a site's metrics on a port of this machine while the site is open.

    Parameters
    ----------
    open_site : OpenSite
    port : int or None
        0 takes any free port; None serves no metrics.
    """
    if port is None:
        return open_site

    @contextmanager
    def opened(bundle: Bundle, radio: RadioEntry, ledger: Ledger) -> Iterator[Site]:
        with open_site(bundle, radio, ledger) as site:
            booked = LedgerMetrics(ledger.path)

            def collect() -> Iterator[Samples]:
                if isinstance(site.fleet, Fleet):
                    yield fleet_samples({agent.name: agent.state for agent in site.fleet})
                yield from booked.samples()

            exposition = Exposition(collect, port=port)
            stderr_console().print(f"metrics at {exposition.url}", soft_wrap=True)
            try:
                yield site
            finally:
                exposition.close()

    return opened
