"""Two radios and a neighbour on a simulated air; one of the receivers is imperfect."""

from __future__ import annotations

import math

from siftmoe.radio.channel.multipath import AirPath
from siftmoe.radio.device import RadioSettings
from siftmoe.radio.simulated.air import Air
from siftmoe.radio.simulated.front_end import DeviceModel
from siftmoe.radio.simulated.impairments import Impairments
from siftmoe.radio.simulated.radio import SimulatedRadio
from siftmoe.radio.sounding import pilots
from siftmoe.radio.sounding.sounder import Sounding, sound

RATE_HZ = 2e6
CARRIER_HZ = 2.4e9
FREQUENCIES_HZ = pilots.carriers() * RATE_HZ / pilots.FFT_SIZE
SETTINGS = RadioSettings(
    carrier_hz=CARRIER_HZ, sample_rate_hz=RATE_HZ, tx_attenuation_db=10.0, rx_gain_db=60.0
)
#: Path whose burst arrives at -17 dB of full scale and 29 dB of SNR at these settings.
STRONG = AirPath(gain=10**-6.5, delay_s=0.33e-6)
MIDDLE = AirPath(gain=10**-7.5, delay_s=0.33e-6)
WEAK = AirPath(gain=10**-9.7, delay_s=0.33e-6)


class Bench:
    """Radios ``a`` and ``b`` on an air; ``b`` has the impairments."""

    def __init__(self, path: AirPath = MIDDLE, *, seed: int = 3, ppm: float = 12.0, **more: object):
        impairments = Impairments(**more)  # type: ignore[arg-type]
        devices = {
            "a": DeviceModel(ppm=ppm),
            "b": DeviceModel(ppm=-7.0, impairments=impairments),
            "neighbour": DeviceModel(ppm=3.0),
        }
        self.air = Air(devices, sample_rate_hz=RATE_HZ, seed=seed)
        self.air.connect("a", "b", path)
        self.a, self.b = SimulatedRadio(self.air, "a"), SimulatedRadio(self.air, "b")

    def sound(self, cfo_hz: float | None = None, rx_gain_db: float = 60.0) -> Sounding:
        listening = RadioSettings(
            carrier_hz=CARRIER_HZ,
            sample_rate_hz=RATE_HZ,
            tx_attenuation_db=10.0,
            rx_gain_db=rx_gain_db,
        )
        return sound(
            self.a,
            self.b,
            settings=SETTINGS,
            receiver_settings=listening,
            now_s=0.0,
            cfo_hz=cfo_hz,
        )

    def error_db(self, got: Sounding) -> float:
        return 10 * math.log10(got.channel.gain / self.air.gain("a", "b", FREQUENCIES_HZ))

    def cfo_hz(self) -> float:
        return self.air.cfo_hz("a", "b", CARRIER_HZ)


def std_db(got: Sounding) -> float:
    return 10 / math.log(10) * got.channel.gain_std / got.channel.gain
