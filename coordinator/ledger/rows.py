"""Rows of the ledger as frozen dataclasses. SI units; a field's name ends in its unit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from siftmoe.radio.channel.link import ChannelOrigin, Source, weakest

if TYPE_CHECKING:
    from siftmoe.coordinator.links.states import Direction

StepKind = Literal["prefill", "decode"]


@dataclass(frozen=True, slots=True, kw_only=True)
class StepRow:
    """One forward pass of the model, and the parts of its latency.

    ``latency_s`` is on the run's clock (virtual for simulated links); the remainder
    beyond the parts is reported as the rest. ``wall_s`` is real time on this machine. A step that
    ended with an error is ``aborted``: its transmissions are booked, but no sum over steps contains
    it.
    """

    step: int
    kind: StepKind
    time_s: float
    tokens: int
    latency_s: float
    airtime_s: float
    solve_s: float
    queue_s: float
    compute_s: float
    backbone_s: float
    wall_s: float
    aborted: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class SelectionRow:
    """The policy's decision for one layer of one step.

    ``lower_bound_j`` is NaN where the policy proves none. ``measured_deviation`` is None unless
    the layer was audited, and so is ``within_bound``, the tokens whose measured deviation is at
    most the bound. ``excluded`` names excluded helpers with reasons. Of the skipped slots, ``lost``
    were planned to be served but their token missed its window, and ``faulted`` because their
    helper failed and no other took over.
    """

    step: int
    layer: int
    kept: int
    replaced: int
    skipped: int
    predicted_energy_j: float
    lower_bound_j: float
    status: str
    deviation_bound_mean: float
    deviation_bound_max: float
    measured_deviation: float | None
    solve_s: float
    excluded: str = ""
    within_bound: int | None = None
    lost: int = 0
    faulted: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class FaultRow:
    """A helper's failure to give a result for one layer of one step.

    ``kind`` is the error's class. ``slots`` is the number of slots assigned to it; the number that
    no helper served in the end stands in the layer's selection. ``waited_s`` is real time, from
    sending to giving up.
    """

    time_s: float
    step: int
    layer: int
    agent: str
    kind: str
    reason: str
    slots: int
    waited_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class TransmissionRow:
    """One burst: the tokens of one layer to one helper ("up") or back ("down").

    ``missed`` of its tokens did not arrive within the window, or were abandoned for another
    helper; the energy spent on them is booked. ``widths`` lists bits per entry and number of
    tokens, ascending: "3:5 8:2". ``energy_j`` is what is radiated, ``control_j`` the part of it
    that ``control_bits`` of the payload took: headers, experts and weights. ``circuit_tx_j`` and
    ``circuit_rx_j`` come on top: circuits of the sender and of the receivers during the airtime.
    A broadcast is one burst, booked for the helper of the worst link that it is meant for;
    ``heard`` lists the names of all that hear it, and is empty where a burst is for one.
    """

    time_s: float
    step: int
    layer: int
    agent: str
    direction: Direction | Literal["up", "down"]
    tokens: int
    payload_bits: float
    tx_power_w: float
    tx_power_std_w: float
    power_source: Source
    airtime_s: float
    airtime_source: Source
    energy_j: float
    energy_std_j: float
    rate_bps: float
    channel_gain: float
    gain_std: float = 0.0
    channel_age_s: float
    channel_origin: ChannelOrigin
    missed: int = 0
    widths: str = ""
    control_bits: float = 0.0
    control_j: float = 0.0
    circuit_tx_j: float = 0.0
    circuit_rx_j: float = 0.0
    heard: str = ""

    @property
    def energy_source(self) -> Source:
        """Source of power times airtime."""
        return weakest(self.power_source, self.airtime_source)


@dataclass(frozen=True, slots=True, kw_only=True)
class SoundingRow:
    """One pilot exchange in one direction, or the attempt: cost and estimate.

    An exchange without an estimate has the fields of the estimate None and a ``reason``; one with
    an estimate and a ``reason`` has a gain that is more uncertain than noise and calibration make
    it. ``cfo_std_hz`` covers noise and the spread within the capture, not Doppler.
    ``response`` is the estimated frequency response, complex64 in the order of the carriers as
    bytes (``numpy.frombuffer(row.response, numpy.complex64)``), empty if there is none.
    """

    time_s: float
    agent: str
    direction: Direction | Literal["up", "down"]
    tx_power_w: float
    tx_power_std_w: float
    power_source: Source
    airtime_s: float
    airtime_source: Source
    energy_j: float
    energy_std_j: float
    carrier_hz: float
    detected: bool
    channel_gain: float | None = None
    gain_std: float | None = None
    snr: float | None = None
    cfo_hz: float | None = None
    noise_psd: float | None = None
    gain_source: Source | None = None
    noise_psd_std: float | None = None
    noise_source: Source | None = None
    cfo_std_hz: float | None = None
    reason: str = ""
    response: bytes = b""

    @property
    def energy_source(self) -> Source:
        """Source of power times airtime."""
        return weakest(self.power_source, self.airtime_source)


@dataclass(frozen=True, slots=True, kw_only=True)
class BoardRow:
    """Energy of one agent's board during the run, by its own sensors.

    ``energy_j`` is gross: all energy of the rails in ``duration_s``. ``net_j`` is the excess over
    idling for as long, and may be negative within its uncertainty. ``rails`` names the summed
    rails.
    """

    agent: str
    rails: str
    energy_j: float
    energy_std_j: float
    idle_power_w: float
    idle_power_std_w: float
    duration_s: float
    net_j: float
    net_std_j: float
    samples: int
    longest_gap_s: float
    source: Source = Source.MEASURED


#: Rows that belong to a step, and rows that belong to none.
StepPart = SelectionRow | TransmissionRow | FaultRow
BesideRow = SoundingRow | BoardRow
Row = StepRow | SelectionRow | TransmissionRow | FaultRow | SoundingRow | BoardRow
