"""Settings of an agent and the selection of the experts that it hosts."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from siftmoe.agent.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

_ITEM = re.compile(r"(\*|\d+(?:-\d+)?):(\*|\d+(?:-\d+)?)$")


class AgentConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Settings of an agent.

    Parameters
    ----------
    bundle : str
        Folder of the bundle.
    bind : str
        ``tcp://HOST:PORT`` (``*`` picks a free port) or ``ipc://PATH``.
    experts : str
        Which experts to host, see :func:`select_experts`.
    name : str
        Name of the agent in the testbed file.
    provider : str
        "auto", or a list of tensorrt, cuda and cpu in the order in which they are tried.
    threads : int
        Threads inside one operator; 0 uses every core that this process may run on.
    queue_limit : int
        Requests that may wait for computation; one client may use as many places as are free.
    insecure : bool
        Allow an address that other machines reach without keys.
    key : str or None
        File with this agent's key pair; if given, every connection is encrypted.
    allow : str or None
        Allow-list: file with the public keys that may connect.
    radio : str or None
        URI of the Pluto that takes part in pilot exchanges: ``ip:HOST`` or ``usb:...``.
    widths : str
        Bits per entry of the vectors that the agent accepts and sends, with commas, or "all". A
        board too slow to pack and unpack takes "16,32", which ``hello`` tells its clients.
    idle_s : float, s
        How long the idle power is measured before the agent serves, on a board with power
        sensors; 0 measures no power, for several agents on one board.
    sysfs : str
        Folder in which the sensors are searched.
    packing : "auto", "compiled" or "numpy"
        What packs and unpacks vectors: compiled code, which takes most of a second and 130 MB when
        the agent starts, or numpy. The numbers are the same. "auto" uses compiled code where numba
        is installed.
    metrics_port : int or None
        Port of the metrics for Prometheus; 0 takes any free port, None opens none.
    metrics_host : str
        Address of that port.
    """

    bundle: Annotated[str, Meta(min_length=1)]
    bind: Annotated[str, Meta(min_length=1)] = "tcp://127.0.0.1:*"
    experts: Annotated[str, Meta(min_length=1)] = "*:*"
    name: Annotated[str, Meta(min_length=1, max_length=255)] = "agent"
    provider: Annotated[str, Meta(min_length=1)] = "auto"
    threads: Annotated[int, Meta(ge=0, le=1_024)] = 0
    queue_limit: Annotated[int, Meta(ge=1, le=1_000_000)] = 256
    insecure: bool = False
    key: Annotated[str, Meta(min_length=1)] | None = None
    allow: Annotated[str, Meta(min_length=1)] | None = None
    radio: Annotated[str, Meta(min_length=1)] | None = None
    widths: Annotated[str, Meta(min_length=1)] = "all"
    packing: Literal["auto", "compiled", "numpy"] = "auto"
    idle_s: Annotated[float, Meta(ge=0.0, le=600.0)] = 3.0
    sysfs: Annotated[str, Meta(min_length=1)] = "/sys"
    metrics_port: Annotated[int, Meta(ge=0, le=65_535)] | None = None
    metrics_host: Annotated[str, Meta(min_length=1)] = "127.0.0.1"

    def __post_init__(self) -> None:
        if (self.key is None) != (self.allow is None):
            raise ValueError("key and allow go together: who this agent is, and whom it admits")
        if self.key is not None and self.insecure:
            raise ValueError("insecure means without keys; leave one of the two away")

    @classmethod
    def from_options(cls, options: Mapping[str, Any]) -> AgentConfig:
        """Check options and fill in defaults.

        Raises
        ------
        ConfigError
            If an option is unknown, of the wrong type or out of bounds; the message has its name.
        """
        try:
            return msgspec.convert(dict(options), cls)
        except msgspec.ValidationError as error:
            raise ConfigError(f"agent: {error}") from error

    @property
    def num_threads(self) -> int:
        """Threads to use, with 0 resolved."""
        return self.threads or len(os.sched_getaffinity(0))

    def width_list(self) -> tuple[int, ...]:
        """Return the widths as numbers, ascending; ConfigError if the list is not valid."""
        from siftmoe.models.vectors.records import ROW_WIDTHS  # brings numpy

        words = self.widths.split(",")
        known = {str(width): width for width in ROW_WIDTHS}
        if words == ["all"]:
            return ROW_WIDTHS
        if not {"16", "32"} <= set(words) <= set(known):
            raise ConfigError(
                f"agent: widths {self.widths!r}: must be all, or some of {', '.join(known)} with "
                f"16 and 32 among them"
            )
        return tuple(sorted({known[word] for word in words}))

    def arguments(self) -> list[str]:
        """Return these settings as arguments of ``python -m siftmoe.agent``."""
        given: list[str] = []
        for name, value in msgspec.structs.asdict(self).items():
            option = f"--{name.replace('_', '-')}"
            if value is True:
                given.append(option)
            elif value is not False and value is not None:
                given.append(f"{option}={value}")
        return given


def select_experts(
    selection: str, *, num_layers: int, num_experts: int
) -> tuple[tuple[int, int], ...]:
    """Return the experts that a selection names, sorted, each once.

    Parameters
    ----------
    selection : str
        Items ``LAYERS:EXPERTS`` with commas between, each side a number, a range ``A-B`` with
        both ends, or ``*`` for all: ``"0:3,1:*,2-5:0-1"``.
    num_layers, num_experts : int
        Of the model.

    Returns
    -------
    tuple of (layer, expert)

    Raises
    ------
    ConfigError
        If an item is malformed or names an expert that the model does not have.

    Examples
    --------
    >>> select_experts("0:1,1:*", num_layers=2, num_experts=2)
    ((0, 1), (1, 0), (1, 1))
    """
    found: set[tuple[int, int]] = set()
    for item in selection.split(","):
        match = _ITEM.match(item.strip())
        if match is None:
            raise ConfigError(
                f"experts: {item.strip()!r} is not LAYERS:EXPERTS such as 0:3, 1:* or 2-5:0-1"
            )
        layers = _numbers(match[1], num_layers, item, "layers")
        experts = _numbers(match[2], num_experts, item, "experts")
        found.update((layer, expert) for layer in layers for expert in experts)
    return tuple(sorted(found))


def _numbers(text: str, count: int, item: str, what: str) -> range:
    if text == "*":
        return range(count)
    first, _, last = text.partition("-")
    numbers = range(int(first), int(last or first) + 1)
    if not numbers or numbers[-1] >= count:
        raise ConfigError(
            f"experts: {item.strip()!r} is not of this model: it has {count} {what}, 0 to "
            f"{count - 1}"
        )
    return numbers
