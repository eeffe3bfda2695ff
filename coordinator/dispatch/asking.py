"""Sends the shares of a layer to their helpers and waits for the replies."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from siftmoe.coordinator.client.exchange import Exchange
    from siftmoe.coordinator.client.requests import Client
    from siftmoe.coordinator.dispatch.grouping import Share
    from siftmoe.models.vectors.quantise import Rotation


class Asked(NamedTuple):
    """What all requests of a layer have in common."""

    layer: int
    reply_width: int
    rotation: Rotation
    deadline_s: float


def ask(
    client: Client,
    shares: Sequence[Share],
    asked: Asked,
    *,
    meanwhile: Callable[[], None] | None = None,
) -> Exchange:
    """Request the results of some shares, one per helper."""
    requests = {
        share.helper: share.request(
            request_id=client.next_id(),
            layer=asked.layer,
            deadline_s=asked.deadline_s,
            rotation=asked.rotation,
            residents=client.fleet.residents(share.helper, asked.layer),
        )
        for share in shares
    }
    return client.exchange(requests, deadline_s=asked.deadline_s, meanwhile=meanwhile)
