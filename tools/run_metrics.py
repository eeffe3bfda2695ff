"""Let Prometheus ask a run how it goes, while it goes."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from siftmoe.agent.exposition import Exposition
from siftmoe.coordinator.fleet import Fleet
from siftmoe.coordinator.metrics import LedgerMetrics, fleet_samples
from siftmoe.tools.console import stderr_console

if TYPE_CHECKING:
    from collections.abc import Iterator

    from siftmoe.agent.exposition import Samples
    from siftmoe.coordinator.config_radio import RadioEntry
    from siftmoe.coordinator.ledger import Ledger
    from siftmoe.models.bundle import Bundle
    from siftmoe.tools.comparison import OpenSite
    from siftmoe.tools.comparison_setup import Job
    from siftmoe.tools.site import Site


def with_metrics(open_site: OpenSite, port: int | None) -> OpenSite:
    """Make a site's figures readable on a port of this machine for as long as it is open.

    Parameters
    ----------
    open_site : OpenSite
    port : int or None
        0 takes any free one; None changes nothing.
    """
    if port is None:
        return open_site

    @contextmanager
    def opened(job: Job, bundle: Bundle, radio: RadioEntry, ledger: Ledger) -> Iterator[Site]:
        with open_site(job, bundle, radio, ledger) as site:
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
