"""Opens the source of a testbed's channel states: radios, or a labelled simulation."""

from __future__ import annotations

import logging
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from siftmoe.coordinator.clock import RealClock, VirtualClock
from siftmoe.coordinator.errors import ConfigError, RadioMissing
from siftmoe.coordinator.links.sources import SIMULATED, links_of
from siftmoe.coordinator.sounding.exchange import PilotExchanges
from siftmoe.coordinator.sounding.links import SoundedLinks
from siftmoe.coordinator.sounding.results import sounding_row
from siftmoe.radio.device import RadioSettings
from siftmoe.radio.errors import RadioError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from siftmoe.coordinator.client.requests import Client
    from siftmoe.coordinator.clock import Clock
    from siftmoe.coordinator.config.entries import Testbed
    from siftmoe.coordinator.config.radio import SoundingEntry
    from siftmoe.coordinator.ledger.rows import SoundingRow
    from siftmoe.coordinator.links.states import Links, LinkStates
    from siftmoe.coordinator.sounding.results import Sounded
    from siftmoe.radio.device import Radio

_log = logging.getLogger(__name__)

RadioChoice = Literal["auto", "simulated"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Channel:
    """Links of a run, their clock, and which of them are simulated.

    Parameters
    ----------
    links : Links
    clock : Clock
    names : tuple of str
        Of the helpers.
    simulated : mapping of int to str
        Reasons of the helpers whose links are simulated.
    observed : callable
        Returns states after soundings; none without a radio.
    source : str
        Source of the states of links that no radio sounds.
    """

    links: Links
    clock: Clock
    names: tuple[str, ...]
    simulated: Mapping[int, str] = field(default_factory=dict)
    observed: Callable[[], Sequence[LinkStates]] = tuple
    source: str = SIMULATED

    @property
    def sounded(self) -> tuple[str, ...]:
        """Names of the helpers whose links radios sound."""
        return tuple(name for n, name in enumerate(self.names) if n not in self.simulated)

    def note(self) -> str:
        """Describe the source of the states, for screens, reports and configurations."""
        if not self.sounded:
            reasons = sorted(set(self.simulated.values()))
            why = f" ({'; '.join(reasons)})" if reasons else ""
            what = "SIMULATED links" if self.source == SIMULATED else f"Links from {self.source}"
            return f"{what}, no radio was used{why}: every energy and airtime is modelled."
        text = (
            f"Links to {', '.join(self.sounded)} sounded by radio. Hidden states travel over the "
            "network: their airtime and energy are modelled on the sounded channels; the pilots' "
            "airtime is measured."
        )
        for n, reason in sorted(self.simulated.items()):
            text += f" Link to {self.names[n]} SIMULATED: {reason}."
        return text


@contextmanager
def open_channel(
    config: Testbed,
    client: Client,
    *,
    record: Callable[[SoundingRow], None],
    radio: RadioChoice = "auto",
    realtime: bool = False,
    open_radio: Callable[[str], Radio] | None = None,
) -> Iterator[Channel]:
    """Open the radios of a testbed and sound all links; the end of the block silences them.

    Parameters
    ----------
    config : Testbed
        Without ``[sounding]`` everything is simulated.
    client : Client
        Connected.
    record : callable
        Books every pilot exchange.
    radio : "auto" or "simulated"
    realtime : bool
        Sleep for the airtime of hidden states.
    open_radio : callable or None
        Opens the user's radio by its URI; a Pluto by default.

    Raises
    ------
    ConfigError
        If fast fading is to be simulated on links that are sounded.
    RadioMissing
        If the user's radio or a helper's is missing and ``fallback`` is false.
    """
    names, source = client.fleet.names, config.radio.links
    simulated = links_of(config.radio, [agent.distance_m for agent in config.agent])
    if config.sounding is None or radio == "simulated":
        clock = VirtualClock(realtime=realtime)
        everybody = dict.fromkeys(range(len(names)), _asked(config.sounding))
        yield Channel(
            links=simulated,
            clock=clock,
            names=names,
            simulated=everybody,
            source=source,
        )
        return
    if config.radio.fading_slots:
        raise ConfigError(
            "fading_slots in [radio] is a simulation of fast fading; with [sounding] leave it "
            "away, or run with --radio simulated"
        )
    sounding, real = config.sounding, RealClock(realtime=realtime)
    exchanges = PilotExchanges(
        lambda: (open_radio or _open_pluto)(sounding.uri),
        client,
        settings=RadioSettings(
            carrier_hz=config.radio.carrier_hz,
            sample_rate_hz=sounding.sample_rate_hz,
            tx_attenuation_db=sounding.tx_attenuation_db,
            rx_gain_db=sounding.rx_gain_db,
        ),
        bursts=sounding.bursts,
        clock=lambda: real.now_s,
    )

    def book(result: Sounded) -> None:
        agent = names[result.helper]
        record(sounding_row(result, agent=agent, carrier_hz=config.radio.carrier_hz))

    links = SoundedLinks(
        exchanges,
        names=names,
        settings=sounding,
        coherence_time_s=config.radio.coherence_time_s,
        bandwidth_hz=config.radio.bandwidth_hz,
        simulated=simulated,
        clock=lambda: real.now_s,
        book=book,
    )
    try:
        _make_contact(links, client, config)
        if len(links.without_radio) == len(names):
            clock = VirtualClock(realtime=realtime)
            yield Channel(
                links=simulated,
                clock=clock,
                names=names,
                simulated=links.without_radio,
                source=source,
            )
        else:
            yield Channel(
                links=links,
                clock=real,
                names=names,
                simulated=links.without_radio,
                observed=links.observed,
            )
    finally:
        try:
            exchanges.close()
        except RadioError as error:
            _log.warning("the user's radio did not close cleanly: %s", error)


def _asked(sounding: SoundingEntry | None) -> str:
    return "the testbed has no [sounding]" if sounding is None else "asked for"


def _without(radio: str | None) -> str:
    """Why an agent has no radio, given the radio in its testbed entry."""
    told = "" if radio is None else f" {radio}, which the testbed says it has"
    return f"its agent runs without --radio{told}"


def _make_contact(links: SoundedLinks, client: Client, config: Testbed) -> None:
    """Sound all links once; simulate those of helpers without a radio, or raise RadioMissing."""
    missing = {
        agent.index: _without(config.agent[agent.index].radio)
        for agent in client.fleet
        if agent.hello is not None and agent.hello.radio is None
    }
    for n, reason in missing.items():
        links.simulate(n, reason)
    found = links.first_contact()
    for n, reason in found.items():
        links.simulate(n, reason)
    missing |= found
    if missing and config.sounding is not None and not config.sounding.fallback:
        reasons = [f"{client.fleet[n].name}: {reason}" for n, reason in sorted(missing.items())]
        raise RadioMissing(
            f"no radio for {'; '.join(reasons)}. Connect it, or allow simulated links by "
            "fallback = true in [sounding]"
        )
    for n, reason in missing.items():
        _log.warning("link to %s is simulated: %s", client.fleet[n].name, reason)


def _open_pluto(uri: str) -> Radio:
    from siftmoe.radio.opening import open_radio

    return open_radio(uri)
