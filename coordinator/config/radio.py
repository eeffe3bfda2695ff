"""``[radio]`` of a testbed file: the air between the user's device and the helpers."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from siftmoe.radio.pluto.address import Address
from siftmoe.radio.sounding import pilots

Index = Annotated[int, Meta(ge=0)]
Positive = Annotated[float, Meta(gt=0.0, le=1e12)]
NotNegative = Annotated[float, Meta(ge=0.0, le=1e12)]


class RadioEntry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[radio]``: the air between the user's device and the helpers.

    Parameters
    ----------
    bandwidth_hz : float, Hz
        Of one link; every helper has its own band, or all share one, see ``uplink``.
    uplink : str
        "unicast": every helper has a band of its own for the whole window, as in the paper.
        "tdma": unicast in one band, one burst after the other. "broadcast": one band, and every
        helper hears every burst, so that a token is sent once for all who need it. Where there is
        one band, answers follow each other in one too.
    deadline_s : float or None, s
        Airtime that one token's transmission may take, one direction; with ``deadline_shared``,
        time for both directions and the compute between them. None takes that of
        ``operating_point``, scaled to the bandwidth and the model's vectors of 16 bits an entry.
    deadline_per : str
        "token": a batch of T tokens has T deadlines in a layer; "layer": one, whatever the batch.
        The paper does not say which its deadlines are.
    operating_point : str
        Setting of the paper that the default deadline is taken from: "mixtral-csqa" (0.44 bit/s/Hz
        for a token) or "switch-xsum" (0.018).
    deadline_shared : bool
        Uplink, compute and downlink share one deadline, divided at least energy.
    tx_power_limit_w : float, W
        Power limit of either side.
    noise_figure_db : float, dB
        Of the receivers.
    bits : "auto" or int, bit
        Of an entry of a hidden state on its way to a helper. With "auto", policies that can choose
        the width of every vector do so, and others send 16.
    downlink_bits : "auto", int or None, bit
        Of an entry of an answer; by default "auto" where ``bits`` is, the same for 16 or 32 bits,
        and 8 for fewer.
    minimise : str
        What the selection minimises: "total", all parts of the energy of both directions;
        "radiated", without circuits; "user" or "helpers", what one side's batteries give. Without
        circuit powers "total" is what is radiated.
    uplink_price, downlink_price : float or None
        Price of the user's joule and of a helper's in that sum, in the place of 1, or of 0 for the
        side that ``minimise`` leaves out.
    fading : str
        Small-scale fading of a simulated link; "none": always the mean gain.
    fading_process : str
        Process in time: a new draw per coherence time, Clarke's spectrum, or first-order
        autoregressive.
    fading_slots : int
        Fast fading: blocks of independent Rayleigh gain in the window of an uplink burst, observed
        one by one. 0: the gain at the window's start lasts throughout.
    outage_price : float
        Of fast fading: price of a token that misses its window, in energies of a token at the mean
        gain.
    rician_k_db : float, dB
        Power of the direct path over that of the scattered ones, for "rician".
    coherence_time_s : float, s
        Time for which a simulated link keeps its response.
    carrier_hz : float, Hz
        Of the radios; of simulated links it sets the mean gain at 1 m, free space.
    path_loss_exponent : float
        Beyond 1 m.
    gain_floor : float
        Least fading gain, linear, over its mean: deeper fades are cut, since the mean energy of
        inverting a Rayleigh channel does not exist. Later blocks of fast fading have none.
    user_tx_w, user_rx_w, helper_tx_w, helper_rx_w : float, W
        Power of the circuits of a device while it sends or receives a burst, beside what is
        radiated. Bursts then end before their window where that costs less. 0: not counted, as in
        the paper's setting; docs/explanation/power.md has typical values.
    control : bool
        Count what travels beside the vectors as payload: headers, which experts, weights. False is
        the papers' setting. Fast fading leaves it out of the bursts.
    seed : int
        Of the simulated links.
    links : str
        Where the states of links come from that no radio sounds: "simulated", or a source from
        outside (`siftmoe.coordinator.links.sources`) with its options.
    """

    bandwidth_hz: Annotated[float, Meta(ge=1e3, le=1e11)] = 2e6
    uplink: Literal["unicast", "tdma", "broadcast"] = "unicast"
    deadline_s: Annotated[float, Meta(gt=0.0, le=60.0)] | None = None
    deadline_per: Literal["token", "layer"] = "token"
    operating_point: Literal["mixtral-csqa", "switch-xsum"] = "mixtral-csqa"
    deadline_shared: bool = False
    tx_power_limit_w: Positive = 1.0
    noise_figure_db: Annotated[float, Meta(ge=0.0, le=60.0)] = 5.0
    bits: Literal["auto", 2, 3, 4, 5, 6, 8, 16, 32] = 16
    downlink_bits: Literal["auto", 2, 3, 4, 5, 6, 8, 16, 32] | None = None
    minimise: Literal["total", "radiated", "user", "helpers"] = "total"
    uplink_price: NotNegative | None = None
    downlink_price: NotNegative | None = None
    fading: Literal["rayleigh", "rician", "none"] = "rayleigh"
    fading_process: Literal["block", "jakes", "gauss-markov"] = "block"
    fading_slots: Annotated[int, Meta(ge=0, le=256)] = 0
    outage_price: Positive = 60.0
    rician_k_db: Annotated[float, Meta(ge=-60.0, le=60.0)] = 6.0
    coherence_time_s: Positive = 0.1
    carrier_hz: Annotated[float, Meta(ge=1e6, le=1e12)] = 2.45e9
    path_loss_exponent: Annotated[float, Meta(ge=1.0, le=8.0)] = 3.0
    gain_floor: Annotated[float, Meta(ge=0.0, lt=1.0)] = 0.05
    user_tx_w: NotNegative = 0.0
    user_rx_w: NotNegative = 0.0
    helper_tx_w: NotNegative = 0.0
    helper_rx_w: NotNegative = 0.0
    control: bool = True
    seed: Index = 0
    links: Annotated[str, Meta(min_length=1)] = "simulated"

    def __post_init__(self) -> None:
        if self.uplink_price == 0.0 and self.downlink_price == 0.0:
            raise ValueError(
                "uplink_price and downlink_price are both 0, so that every plan costs nothing; "
                "price at least one of them"
            )
        if self.uplink != "unicast" and (self.deadline_shared or self.fading_slots):
            raise ValueError(
                f'uplink = "{self.uplink}" has one band with a window for each direction, in which '
                f"the channel stays as it is; leave out deadline_shared and fading_slots, or name "
                f'uplink = "unicast"'
            )
        if not self.fading_slots:
            return
        if self.links != "simulated":
            raise ValueError(
                f"fading_slots: fast fading is of simulated links, got links {self.links!r}; leave "
                f"out one of the two"
            )
        if (self.fading, self.fading_process) != ("rayleigh", "block"):
            raise ValueError(
                f"fading_slots: fast fading is Rayleigh in blocks, got fading {self.fading!r} as "
                f"{self.fading_process!r}"
            )
        if self.deadline_shared:
            raise ValueError(
                "fading_slots: fast fading has a window for each direction; leave out "
                "deadline_shared, or fading_slots"
            )

    @property
    def has_circuits(self) -> bool:
        """Whether circuits take power beside what is radiated."""
        return any((self.user_tx_w, self.user_rx_w, self.helper_tx_w, self.helper_rx_w))


class SoundingEntry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[sounding]``: pilot exchanges by radio. Without this table every link is simulated.

    Parameters
    ----------
    uri : str
        The user's radio: ``ip:HOST``, ``usb:...``. The agents have theirs by ``--radio``.
    fallback : bool
        Simulate where there is no radio. Otherwise a missing one is an error.
    sample_rate_hz : float, Hz
        Of the burst, hence its band; the carrier is that of ``[radio]``.
    tx_attenuation_db, rx_gain_db : float, dB
        Of all radios. The gain is adapted if a receiver overloads or hears nothing.
    bursts : int
        Averaged in one exchange.
    stale : str
        Treatment of a state older than the channel's coherence time: "widen" predicts from it with
        growing uncertainty, "refuse" excludes the link until it is sounded again.
    max_age_s : float or None, s
        Oldest state that is used at all; by default one coherence time for "refuse", ten for
        "widen".
    reciprocity : bool
        Derive the downlink from the uplink where reciprocity was measured to hold.
    band_hz : (float, float), Hz
        Band in which the user may transmit: by default 2.4 to 2.4835 GHz. `siftmoe run` warns
        outside it.
    """

    uri: Annotated[str, Meta(min_length=1)]
    fallback: bool = True
    sample_rate_hz: Annotated[float, Meta(ge=521e3, le=61.44e6)] = 2e6
    tx_attenuation_db: Annotated[float, Meta(ge=0.0, le=89.75)] = 10.0
    rx_gain_db: Annotated[float, Meta(ge=0.0, le=71.0)] = 40.0
    bursts: Annotated[int, Meta(ge=1, le=30)] = 4
    stale: Literal["widen", "refuse"] = "widen"
    max_age_s: Positive | None = None
    reciprocity: bool = False
    band_hz: tuple[Positive, Positive] = (2.4e9, 2.4835e9)

    def __post_init__(self) -> None:
        Address.parse(self.uri)
        if not self.band_hz[0] < self.band_hz[1]:
            raise ValueError(f"band_hz must be [lowest, highest] in Hz, got {[*self.band_hz]}")

    def outside_band(self, carrier_hz: float) -> str:
        """Say in what way the occupied band leaves `band_hz`; empty if it does not."""
        half_hz = 0.5 * self.sample_rate_hz * pilots.USED_CARRIERS / pilots.FFT_SIZE
        low_hz, high_hz = carrier_hz - half_hz, carrier_hz + half_hz
        if self.band_hz[0] <= low_hz and high_hz <= self.band_hz[1]:
            return ""
        return (
            f"the pilots occupy {low_hz / 1e6:.2f} to {high_hz / 1e6:.2f} MHz, which leaves "
            f"band_hz = [{self.band_hz[0] / 1e6:g} MHz, {self.band_hz[1] / 1e6:g} MHz] of "
            f"[sounding]; change carrier_hz of [radio], or band_hz if you may transmit there"
        )

    def limit_s(self, coherence_time_s: float) -> float:
        """Oldest state that is used, s."""
        if self.max_age_s is not None:
            return self.max_age_s
        return coherence_time_s * (1.0 if self.stale == "refuse" else 10.0)
