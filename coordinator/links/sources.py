"""Sources of link states by name: built in, from installed packages, or ``package.module:Name``.

A source is called with the ``[radio]`` settings and the helpers' distances, further keyword
arguments are its options, and gives a `Links`::

    def corridor(radio, distances_m, *, blocked=0.1):
        return CorridorLinks(...)

``--links corridor:blocked=0.2``, or ``links`` in ``[radio]`` of a testbed file, chooses it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, cast

from siftmoe import plugins

if TYPE_CHECKING:
    from collections.abc import Sequence

    from siftmoe.coordinator.config.radio import RadioEntry
    from siftmoe.coordinator.links.states import Links

SIMULATED = "simulated"

#: Name -> "module:attribute".
SOURCES: dict[str, str] = {SIMULATED: "siftmoe.coordinator.links.assembly:simulated_links"}


class LinkSource(Protocol):
    """Makes the links of a run."""

    def __call__(self, radio: RadioEntry, distances_m: Sequence[float], /, **options: Any) -> Links:
        """Links to helpers at these distances, m; ``radio.seed`` decides all that is random."""
        ...


def known_sources() -> list[str]:
    """Names of all sources that are built in or installed."""
    return plugins.names(plugins.LINKS, SOURCES)


def links_of(
    radio: RadioEntry, distances_m: Sequence[float], *, source: LinkSource | None = None
) -> Links:
    """Make the links that the settings name.

    Parameters
    ----------
    radio : RadioEntry
    distances_m : sequence of float, m
        One per helper.
    source : LinkSource or None
        Taken instead of the one that the settings name.

    Raises
    ------
    ValueError
        If there is no such source, it refuses its options, or gives something else than links to
        these helpers.
    """
    name, options = plugins.parse(plugins.LINKS, radio.links, SOURCES)
    if source is None:
        source = cast("LinkSource", plugins.find(plugins.LINKS, name, SOURCES))
    else:
        name, options = getattr(source, "__name__", type(source).__name__), {}
    try:
        links = source(radio, distances_m, **options)
    except TypeError as error:
        raise ValueError(f"links {radio.links!r}: {error}") from error
    check_links(links, name=name, num_helpers=len(distances_m))
    return links


def check_links(links: Any, *, name: str, num_helpers: int) -> None:
    """Raise ValueError if an object is no `Links` to so many helpers."""
    if not (hasattr(links, "num_links") and hasattr(links, "states")):
        raise ValueError(
            f"links {name!r}: {links!r} has no num_links and states(now_s), so it is no source of "
            f"link states"
        )
    if links.num_links != num_helpers:
        raise ValueError(f"links {name!r}: {links.num_links} links for {num_helpers} helpers")
