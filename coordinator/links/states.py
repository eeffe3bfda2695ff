"""Channel states of the links to all helpers at one time, and the protocol of their sources."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Protocol

import numpy as np

from siftmoe.radio.channel.link import ChannelOrigin, ChannelState

if TYPE_CHECKING:
    from numpy.typing import NDArray

    BoolArray = NDArray[np.bool_]
    FloatArray = NDArray[np.float64]


class Direction(str, Enum):
    """Uplink: user to helper. Downlink: helper to user."""

    UP = "up"
    DOWN = "down"


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkStates:
    """Channel states of the links to N helpers at one time.

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
        Reason why a link cannot be used now; empty where it can. The other fields of a lost link
        have no meaning. An empty tuple: none is lost.

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
        for name in ("uplink_gain_std", "downlink_gain_std"):
            std = getattr(self, name)
            if std is not None and not np.all((std >= 0.0) & np.isfinite(std)):
                raise ValueError(f"link states: {name} must be finite and not negative, got {std}")
        down = self.downlink_noise_psd
        if down is not None and not np.all((down > 0.0) & np.isfinite(down)):
            raise ValueError(
                f"link states: downlink_noise_psd must be positive and finite, got {down}"
            )
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
        """Lost links with reasons, as booked in the ledger; empty if there are none."""
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
        """Return the states of all links at ``now_s``."""
        ...
