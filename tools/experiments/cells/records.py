"""Records of a study: settings of the air, cells, and their outcomes.

A *cell* is the unit of work: one policy under one setting on one seed. Records are plain data, so
that they can be sent to another process and written as a line of a file.
"""

from __future__ import annotations

import math

import msgspec
from msgspec import Struct

from siftmoe.coordinator.links.distances import distances_of
from siftmoe.tools.results.breakdown import Breakdown

#: Placeholder of the knob's value in a policy's template.
KNOB = "{}"

#: Fast fading: how the energy of a load is predicted: its energy-to-go, or its energy if the gain
#: stayed constant, or were the mean gain.
SELECTIONS = ("energy-to-go", "current-gain", "mean-gain")
#: How experts are placed: in turn, chosen by energy, or by energy and priced loss.
PLACEMENTS = ("round-robin", "energy", "loss")
#: Power of a transmitter's and a receiver's circuits, W: a model of a 2.5 GHz transceiver by Cui,
#: Goldsmith and Bahai (2005), without the amplifier; docs/explanation/power.md.
TYPICAL_CIRCUITS = (0.098, 0.112)


class Setting(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The air and the fleet of a cell.

    Parameters
    ----------
    num_helpers : int
        Helper n hosts the experts e with e mod N = n.
    distance_m : float, m
        Of every helper; with a spread their geometric mean.
    distance_spread : float
        Distance of the farthest helper over that of the nearest; between them they are spread
        geometrically. 1: links differ in fading alone.
    distances_m : tuple of float, m
        Of each helper, in the place of both; empty: not used.
    tx_power_limit_w : float, W
    bandwidth_hz : float
    uplink : str
        "unicast", a band for each helper; "tdma" or "broadcast", one band for all.
    minimise : str
        As of ``[radio]``: "total", both directions, or "user", the uplink.
    deadline_s : float or None
        Airtime of a token in one direction; None takes 0.44 bit/s/Hz, our reading of the paper's
        setting for Mixtral.
    deadline_per : str
        "token": a batch has its tokens' deadlines together; "layer": one, whatever the batch.
    hidden_size : int or None
        Entries of one token's vector on the air; None takes the model's own. Another value gives
        the energy of the same selection in a wider model.
    fading : str
    gain_floor : float
        Least fading gain over its mean.
    coherence_time_s : float
        Far below a layer's window, so that each layer of each step has its own channel state.
    shared_window : bool
        Whether a batch shares its tokens' deadlines or each token has its own.
    with_compute : bool
        Advance the clock by the helpers' compute time. Without it all policies see the same
        channels, since every layer takes the same time.
    slots : int
        Coherence blocks in a burst's window; 0: the channel stays as it was at the start.
    selection : str
        Fast fading: one of ``SELECTIONS``.
    outage_price : float
        Fast fading: price of an undelivered token, in energies of a token at the mean gain.
    audit : bool
        Compute the undivided output too and compare.
    links : str
        Where the states of links come from, as ``links`` in ``[radio]`` of a testbed.
    placement : str
        One of ``PLACEMENTS``: helper n hosts the experts e with e mod N = n, and the next
        helpers its replicas; or `siftmoe.coordinator.placing` chooses, by mean routing alone or
        with losses priced too.
    most_hosts : int
        Hosts of an expert; exactly so many in turn, at most so many where they are chosen.
    memory_experts : int
        Experts that a helper can hold, over all layers, where they are chosen.
    circuits : float
        Power of the circuits during a burst, of both sides, over ``TYPICAL_CIRCUITS``; prices are
        then counted in all that a token costs at the mean gain.
    """

    num_helpers: int = 8
    distance_m: float = 20.0
    distance_spread: float = 1.0
    distances_m: tuple[float, ...] = ()
    tx_power_limit_w: float = 1.0
    bandwidth_hz: float = 2e6
    uplink: str = "unicast"
    minimise: str = "total"
    deadline_s: float | None = None
    deadline_per: str = "token"
    hidden_size: int | None = None
    fading: str = "rayleigh"
    gain_floor: float = 0.05
    coherence_time_s: float = 1e-4
    shared_window: bool = True
    with_compute: bool = False
    slots: int = 0
    selection: str = SELECTIONS[0]
    outage_price: float = 60.0
    audit: bool = False
    links: str = "simulated"
    placement: str = PLACEMENTS[0]
    most_hosts: int = 1
    memory_experts: int = 0
    circuits: float = 0.0

    def where_m(self) -> list[float]:
        """Distances of the helpers, m.

        Raises
        ------
        ValueError
            If they are listed, and not one for each helper.
        """
        if self.distances_m:
            return distances_of(",".join(map(str, self.distances_m)), self.num_helpers)
        if self.distance_spread == 1.0:
            return distances_of(f"{self.distance_m}", self.num_helpers)
        half = math.sqrt(self.distance_spread)
        return distances_of(f"{self.distance_m / half}:{self.distance_m * half}", self.num_helpers)

    @property
    def middle_m(self) -> float:
        """Geometric mean of the helpers' distances, m: that of the link whose energy is a unit."""
        where = self.distances_m or (self.distance_m,)
        return math.exp(math.fsum(map(math.log, where)) / len(where))


class Cell(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One policy under one setting on one seed.

    Parameters
    ----------
    model : str
    setting : Setting
    case : str
        Label of the setting, where figures show several side by side.
    curve : str
        Label of the policy in figures; cells that differ in the knob alone share it.
    template : str
        The policy, with ``{}`` for the knob's value.
    value : float or None
        Of the knob; a price counts energies of one token at the mean gain (per nat, or per unit of
        squared gate weight), so that it means the same at any bandwidth.
    loss : float or None
        Instead of a value: rise of perplexity on validation text that the knob is set to.
    seed : int
    tasks : tuple of str
    """

    model: str
    setting: Setting = Setting()
    case: str = ""
    curve: str
    template: str
    value: float | None = None
    loss: float | None = None
    seed: int = 0
    tasks: tuple[str, ...] = ("perplexity",)

    @property
    def has_knob(self) -> bool:
        """Whether the policy has a knob at all."""
        return KNOB in self.template

    @property
    def is_price(self) -> bool:
        """Whether the knob is a price."""
        return f"price={KNOB}" in self.template

    def key(self) -> str:
        """Return the cell's unique text."""
        return msgspec.json.encode(self, order="sorted").decode()

    def calibration(self) -> Cell | None:
        """Return the cell whose knob value is used for all seeds; None if it needs none."""
        if self.loss is None:
            return None
        return msgspec.structs.replace(self, seed=0, tasks=(), curve="", case="")


class TaskRecord(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Results of a cell on one task.

    Parameters
    ----------
    task : str
    metrics : dict
        Name to (value, standard error over the items).
    tokens : int
    channel_states : int
        Independent states of one link.
    uplink_j, downlink_j : float, J per token
        Of hidden states to the helpers, and of their answers.
    airtime_s, latency_s : float, s per token
        On the virtual clock; every burst lasts its whole window, unless circuits end it early.
    latency_uniform_s, latency_optimal_s : float, s per token
        At full power, with the band divided evenly or optimally among the helpers in use; attention
        waits for the slowest.
    uplink_shared_j : float or None, J per token
        Of the same plans in one band: that of all helpers, divided at least energy among those in
        use. None where each token has a window of its own.
    total_j : float or None, J per token
        Of the radio links with circuits and control; None in studies of an older version.
    radiated_share : float or None
        Share of it that is radiated.
    kept, replaced, skipped : float
        Shares of slots.
    infeasible : float
        Share of selections that could not meet their budget.
    outage : float
        Share of transmissions that missed their window.
    uplink_bits : float
        Mean bits of an entry of the vectors that were sent.
    mix : tuple of (float, dict)
        Tokens sent by the gain of the link over its mean, dB, and by width; see
        `siftmoe.tools.results.width_mix`.
    breakdown : Breakdown
        By layer and by helper.
    documents : tuple of (float, int)
        Of a perplexity: nats and scored tokens of each document.
    wall_s : float
    layers : tuple of dict
        Of an audit, one per layer.
    """

    task: str
    metrics: dict[str, tuple[float, float]]
    tokens: int
    channel_states: int
    uplink_j: float
    downlink_j: float
    airtime_s: float
    latency_s: float
    latency_uniform_s: float
    latency_optimal_s: float
    kept: float
    replaced: float
    skipped: float
    infeasible: float
    outage: float = 0.0
    uplink_bits: float = 16.0
    mix: tuple[tuple[float, dict[int, int]], ...] = ()
    breakdown: Breakdown = msgspec.field(default_factory=Breakdown)
    documents: tuple[tuple[float, int], ...] = ()
    wall_s: float = 0.0
    uplink_shared_j: float | None = None
    total_j: float | None = None
    radiated_share: float | None = None
    layers: tuple[dict[str, float], ...] = ()

    @property
    def radio_j(self) -> float:
        """Radiated energy of both directions, J per token."""
        return self.uplink_j + self.downlink_j


class Outcome(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A finished cell.

    Parameters
    ----------
    cell : Cell
    policy : str
        The policy as it ran, its knob filled in.
    value : float or None
        The knob's value, in the cell's units.
    validation_loss, validation_error, validation_upper : float or None
        Loss of the knob on validation text, if it was set there, over several draws of the links;
        its standard error, and its one-sided upper confidence limit.
    trials : int or None
        Runs that setting the knob took.
    records : tuple of TaskRecord
    """

    cell: Cell
    policy: str
    value: float | None = None
    validation_loss: float | None = None
    validation_error: float | None = None
    validation_upper: float | None = None
    trials: int | None = None
    records: tuple[TaskRecord, ...] = ()

    def record(self, task: str) -> TaskRecord | None:
        """Return the record of one task."""
        return next((record for record in self.records if record.task == task), None)
