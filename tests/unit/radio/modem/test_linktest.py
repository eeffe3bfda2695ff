"""The link test on the simulated air."""

import math

import numpy as np
import pytest

from siftmoe.radio.channel.link import Source
from siftmoe.radio.channel.multipath import AirPath
from siftmoe.radio.device import RadioSettings
from siftmoe.radio.errors import RadioError
from siftmoe.radio.modem.linktest import BACK_OFF_DB, link_test
from siftmoe.radio.simulated.air import Air
from siftmoe.radio.simulated.front_end import DeviceModel
from siftmoe.radio.simulated.radio import SimulatedRadio
from siftmoe.radio.units import dbm_to_watt

PAYLOAD = bytes(range(200))


def radios(gain_db, *, taps=(1.0,)):
    """Two simulated radios, 17 ppm apart, and their air."""
    air = Air({"a": DeviceModel(ppm=11.0), "b": DeviceModel(ppm=-6.0)}, sample_rate_hz=2e6, seed=3)
    air.connect("a", "b", AirPath(gain=10 ** (gain_db / 10), delay_s=0.4e-6, tap_powers=taps))
    return SimulatedRadio(air, "a"), SimulatedRadio(air, "b"), air


def settings(attenuation_db):
    return RadioSettings(
        carrier_hz=2.45e9, sample_rate_hz=2e6, tx_attenuation_db=attenuation_db, rx_gain_db=40.0
    )


def test_bytes_arrive_over_the_simulated_air():
    sender, receiver, _ = radios(-70.0, taps=(1.0, 0.2, 0.05))
    report = link_test(
        sender, receiver, settings=settings(10.0), payload=PAYLOAD, scheme=7, bursts=5
    )
    assert report.payloads == report.headers == report.bursts >= 5
    assert (report.wrong, report.lost_blocks, report.block_loss) == (0, 0, 0.0)
    assert report.cfo_hz == pytest.approx(17e-6 * 2.45e9, abs=100.0)
    assert report.throughput_bps == pytest.approx(8 * 200 / report.airtime_s)
    expected = dbm_to_watt(sender.reference.tx_full_scale_dbm - 10.0 - BACK_OFF_DB)
    assert report.tx_power_w == pytest.approx(expected, rel=0.05)
    assert report.tx_power_source is Source.MODELLED
    energy = report.tx_power_w * report.airtime_s / (8 * 200)
    assert report.energy_per_bit_j == pytest.approx(energy)
    assert report.gap > 1.0


def test_a_link_that_is_too_weak_delivers_nothing():
    sender, receiver, _ = radios(-125.0)
    report = link_test(
        sender, receiver, settings=settings(20.0), payload=PAYLOAD, scheme=5, bursts=3
    )
    assert (report.headers, report.payloads, report.block_loss) == (0, 0, 1.0)
    assert math.isnan(report.snr)
    assert math.isnan(report.gap)
    assert math.isinf(report.energy_per_bit_j)


def test_more_attenuation_less_snr():
    sender, receiver, _ = radios(-80.0)
    snrs = []
    for attenuation_db in (10.0, 20.0):
        report = link_test(
            sender,
            receiver,
            settings=settings(attenuation_db),
            payload=PAYLOAD,
            scheme=2,
            bursts=3,
        )
        assert report.payloads == report.bursts
        snrs.append(10 * math.log10(report.snr))
    assert snrs[0] - snrs[1] == pytest.approx(10.0, abs=0.6)


def test_the_transmitter_is_silent_after_an_error():
    sender, receiver, _ = radios(-70.0)

    class Broken:
        """The receiver, of which a capture fails."""

        def __getattr__(self, name):
            return getattr(receiver, name)

        def receive(self, count):
            raise RadioError("lost")

    with pytest.raises(RadioError, match="lost"):
        link_test(sender, Broken(), settings=settings(10.0), payload=b"x", scheme=2, bursts=1)
    heard = receiver.receive(4000)
    sender.transmit(np.full(100, 0.3 + 0j))
    louder = receiver.receive(4000)
    assert abs(heard).std() < 0.2 * abs(louder).mean()


@pytest.mark.parametrize(("payload", "bursts"), [(b"", 1), (b"x", 0)])
def test_nothing_to_test_is_refused(payload, bursts):
    sender, receiver, _ = radios(-70.0)
    with pytest.raises(ValueError, match="nothing to test"):
        link_test(
            sender, receiver, settings=settings(10.0), payload=payload, scheme=2, bursts=bursts
        )
