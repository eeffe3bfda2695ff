"""Where channel states come from.

A ``Links`` answers one question: how are the links to the helpers now? ``SimulatedLinks`` asks a
seeded fading model and lives on the virtual clock, ``FixedLinks`` always says the same. Both are
pure functions of time: how often and in which order they are asked changes nothing.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

from siftmoe.coordinator.air.interface import Direction
from siftmoe.radio.channel.link import ChannelOrigin, ChannelState
from siftmoe.radio.channel.pathloss import path_gain
from siftmoe.radio.units import thermal_noise_psd

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from siftmoe.radio.channel.fading import Fading, FadingModel

    BoolArray = NDArray[np.bool_]
    FloatArray = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkStates:
    """What is known of the links to N helpers at one time.

    Parameters
    ----------
    uplink_gain, downlink_gain : (N,) float64
        Power gain user to helper and helper to user, linear, antenna ports included.
    noise_psd : (N,) float64, W/Hz
        Noise at the helper.
    bandwidth_hz : (N,) float64, Hz
    time_s : (N,) float64, s
        When each state was obtained, on the clock of ``Links.states``.
    origin : (N,) tuple of ChannelOrigin
    uplink_gain_std, downlink_gain_std : (N,) float64 or None
        Standard uncertainties of the gains, linear; None where they are known exactly.
    downlink_noise_psd : (N,) float64 or None, W/Hz
        Noise at the user; None where it is that of the helper.
    lost : (N,) tuple of str
        Why a link cannot be used now; empty where it can. A lost link's other fields mean nothing.
        An empty tuple: none is lost.

    Raises
    ------
    ValueError
        If the shapes differ, or a value is not that of a channel state.
    """

    uplink_gain: FloatArray
    downlink_gain: FloatArray
    noise_psd: FloatArray
    bandwidth_hz: FloatArray
    time_s: FloatArray
    origin: tuple[ChannelOrigin, ...]
    uplink_gain_std: FloatArray | None = None
    downlink_gain_std: FloatArray | None = None
    downlink_noise_psd: FloatArray | None = None
    lost: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        count = len(self.origin)
        for name in self.__slots__:
            value = getattr(self, name)
            if isinstance(value, np.ndarray) and value.shape != (count,):
                raise ValueError(
                    f"link states: {name} must have shape ({count},), got {value.shape}"
                )
        if self.lost and len(self.lost) != count:
            raise ValueError(f"link states: lost must have {count} entries, got {self.lost}")
        for name in ("uplink_gain", "downlink_gain", "noise_psd", "bandwidth_hz"):
            value = getattr(self, name)
            if not np.all((value > 0.0) & np.isfinite(value)):
                raise ValueError(f"link states: {name} must be positive and finite, got {value}")
        if not np.all(np.isfinite(self.time_s)):
            raise ValueError(f"link states: time_s must be finite, got {self.time_s}")

    @property
    def num_links(self) -> int:
        """N."""
        return len(self.origin)

    def available(self) -> BoolArray:
        """Which links can be used, (N,)."""
        return np.array([not reason for reason in self.lost or ("",) * self.num_links])

    def lost_text(self) -> str:
        """Which links cannot be used and why, as the ledger keeps it; empty if all can."""
        return "; ".join(reason for reason in self.lost if reason)

    def gain(self, direction: Direction) -> FloatArray:
        """Gains of one direction, (N,)."""
        return self.uplink_gain if direction is Direction.UP else self.downlink_gain

    def receiver_noise_psd(self, direction: Direction) -> FloatArray:
        """Noise at the receivers of one direction, (N,) W/Hz."""
        down = self.downlink_noise_psd
        return self.noise_psd if direction is Direction.UP or down is None else down

    def channel_state(self, n: int, direction: Direction) -> ChannelState:
        """State of one direction of the link to helper ``n``."""
        up = direction is Direction.UP
        std = self.uplink_gain_std if up else self.downlink_gain_std
        return ChannelState(
            gain=float(self.gain(direction)[n]),
            noise_psd=float(self.receiver_noise_psd(direction)[n]),
            bandwidth_hz=float(self.bandwidth_hz[n]),
            time_s=float(self.time_s[n]),
            origin=self.origin[n],
            gain_std=0.0 if std is None else float(std[n]),
        )


class Links(Protocol):
    """A source of channel states."""

    @property
    def num_links(self) -> int:
        """N, the number of helpers."""
        ...

    def states(self, now_s: float) -> LinkStates:
        """Return what is known of all links at ``now_s``."""
        ...


def _per_link(name: str, value: ArrayLike, count: int) -> FloatArray:
    array = np.asarray(value, dtype=np.float64)
    if array.shape not in ((), (count,)):
        raise ValueError(f"links: {name} must be a number or {count} numbers, got {value!r}")
    if not np.all((array > 0.0) & np.isfinite(array)):
        raise ValueError(f"links: {name} must be positive and finite, got {value!r}")
    spread: FloatArray = np.broadcast_to(array, (count,)).copy()
    spread.setflags(write=False)
    return spread


class FixedLinks:
    """Links that do not change; a downlink is like its uplink unless given.

    Parameters
    ----------
    gain : (N,), linear
        Uplink gain.
    noise_psd, bandwidth_hz : number or (N,), W/Hz and Hz
    downlink_gain : (N,) or None, linear
    """

    def __init__(
        self,
        *,
        gain: ArrayLike,
        noise_psd: ArrayLike,
        bandwidth_hz: ArrayLike,
        downlink_gain: ArrayLike | None = None,
    ) -> None:
        count = np.atleast_1d(np.asarray(gain)).shape[0]
        self._up = _per_link("gain", gain, count)
        self._down = self._up
        if downlink_gain is not None:
            self._down = _per_link("downlink_gain", downlink_gain, count)
        self._noise = _per_link("noise_psd", noise_psd, count)
        self._band = _per_link("bandwidth_hz", bandwidth_hz, count)

    @property
    def num_links(self) -> int:
        """N."""
        return len(self._up)

    def states(self, now_s: float) -> LinkStates:
        """Return the same gains at any time."""
        return LinkStates(
            uplink_gain=self._up,
            downlink_gain=self._down,
            noise_psd=self._noise,
            bandwidth_hz=self._band,
            time_s=np.full(self.num_links, now_s),
            origin=(ChannelOrigin.FIXED,) * self.num_links,
        )


class SimulatedLinks:
    """Fading links on the virtual clock.

    Link n fades independently of every other, and the same way however many links there are.

    Parameters
    ----------
    mean_gain : (N,), linear
        Mean power gain of each link; the fading multiplies it.
    noise_psd, bandwidth_hz : number or (N,), W/Hz and Hz
    fading : FadingModel
    seed : int
    reciprocal : bool
        Both directions share one response, as on one carrier within a coherence time; otherwise
        (two carriers) they fade independently.
    """

    def __init__(
        self,
        *,
        mean_gain: ArrayLike,
        noise_psd: ArrayLike,
        bandwidth_hz: ArrayLike,
        fading: FadingModel,
        seed: int,
        reciprocal: bool = True,
    ) -> None:
        count = np.atleast_1d(np.asarray(mean_gain)).shape[0]
        self._mean = _per_link("mean_gain", mean_gain, count)
        self._noise = _per_link("noise_psd", noise_psd, count)
        self._band = _per_link("bandwidth_hz", bandwidth_hz, count)
        # Directions are the even and the odd streams of the model.
        self._up = [fading.link(2 * n, seed=seed) for n in range(count)]
        self._down = self._up
        if not reciprocal:
            self._down = [fading.link(2 * n + 1, seed=seed) for n in range(count)]

    @classmethod
    def at_distances(
        cls,
        distance_m: ArrayLike,
        *,
        carrier_hz: float,
        bandwidth_hz: ArrayLike,
        fading: FadingModel,
        seed: int,
        path_loss_exponent: float = 3.0,
        noise_figure_db: float = 5.0,
        reciprocal: bool = True,
    ) -> SimulatedLinks:
        """Links whose mean gain follows the log-distance law and whose noise is thermal."""
        return cls(
            mean_gain=path_gain(
                distance_m=distance_m, carrier_hz=carrier_hz, exponent=path_loss_exponent
            ),
            noise_psd=thermal_noise_psd(noise_figure_db=noise_figure_db),
            bandwidth_hz=bandwidth_hz,
            fading=fading,
            seed=seed,
            reciprocal=reciprocal,
        )

    @property
    def num_links(self) -> int:
        """N."""
        return len(self._mean)

    def states(self, now_s: float) -> LinkStates:
        """Gains at ``now_s``, known exactly and without delay.

        Raises
        ------
        ValueError
            If the time is not finite.
        """
        if not math.isfinite(now_s):
            raise ValueError(f"links: now_s must be finite, got {now_s}")
        up = self._mean * _gains(self._up, now_s)
        down = up if self._down is self._up else self._mean * _gains(self._down, now_s)
        return LinkStates(
            uplink_gain=up,
            downlink_gain=down,
            noise_psd=self._noise,
            bandwidth_hz=self._band,
            time_s=np.full(self.num_links, now_s),
            origin=(ChannelOrigin.SIMULATED,) * self.num_links,
        )


def _gains(links: list[Fading], now_s: float) -> FloatArray:
    return np.array([float(link.gain(now_s)) for link in links])
