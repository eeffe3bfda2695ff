"""Buffers and transmissions, on a clock that advances only while a client waits."""

from __future__ import annotations

import numpy as np
import pytest

from siftmoe.radio.device import PowerReference
from siftmoe.radio.units import dbm_to_watt

LO = 2_400_000_000
RX, TX = "ad9361-phy INPUT voltage0", "ad9361-phy OUTPUT voltage0"
OPEN_RX, READ_RX = b"OPEN cf-ad9361-lpc %d 00000003\r\n", b"READBUF cf-ad9361-lpc %d\r\n"
TX_DEVICE = b"cf-ad9361-dds-core-lpc"
TONES = "cf-ad9361-dds-core-lpc OUTPUT altvoltage%d"


def _prepare(bench, gain_db: int = 40) -> None:
    for name in ("a", "b"):
        bench.write(name, "ad9361-phy OUTPUT altvoltage0 frequency", str(LO))
        bench.write(name, "ad9361-phy OUTPUT altvoltage1 frequency", str(LO))
        bench.write(name, f"{RX} gain_control_mode", "manual")
        bench.write(name, f"{RX} hardwaregain", str(gain_db))


def _tone(amplitude: float, length: int = 64) -> bytes:
    turns = np.exp(2j * np.pi * 4 * np.arange(length) / length) * amplitude * 32768
    return np.round(turns.astype(np.complex128).view(np.float64)).astype("<i2").tobytes()


def _transmit(bench, data: bytes, *, cyclic: bool = True):
    session = bench.session("a")
    words = (TX_DEVICE, len(data) // 4, b" CYCLIC" if cyclic else b"", TX_DEVICE, len(data))
    replies = session.receive(b"OPEN %s %d 00000003%s\r\nWRITEBUF %s %d\r\n" % words + data)
    assert b"".join(replies) == b"0\n0\n%d\n" % len(data)
    return session


def _block(reply: bytes) -> np.ndarray:
    size, mask, data = reply.split(b"\n", 2)
    assert mask == b"00000003"
    steps = np.frombuffer(data, "<i2").astype(float) / 2048
    assert len(data) == int(size)
    return steps.view(np.complex128)


class Receiver:
    def __init__(self, bench, count: int) -> None:
        self.session, self.count = bench.session("b"), count
        assert b"".join(self.session.receive(OPEN_RX % count)) == b"0\n"

    def read(self) -> np.ndarray:
        return _block(b"".join(self.session.receive(READ_RX % (4 * self.count))))

    def power(self) -> float:
        return float(np.mean(np.abs(self.read()) ** 2))


def test_a_cyclic_buffer_is_received_at_the_level_of_the_budget(bench):
    _prepare(bench)
    _transmit(bench, _tone(0.5))
    power = Receiver(bench, 4000).power()
    # -6.02 dBFS, +7 dBm, -10 dB, -60 dB, +40 dB
    assert 10 * np.log10(power) == pytest.approx(-6.02 + 7 - 10 - 60 + 40, abs=0.1)
    assert bench.plutos["a"].radiated_dbm() == pytest.approx(-6.02 + 7 - 10, abs=0.01)


def test_closing_or_losing_the_client_silences_the_transmitter(bench):
    for end in (lambda s: list(s.receive(b"CLOSE %s\r\n" % TX_DEVICE)), lambda s: s.close()):
        session = _transmit(bench, _tone(0.5))
        assert bench.medium.transmitting() == ["a"]
        end(session)
        assert bench.medium.transmitting() == []


def test_old_blocks_come_first_unless_there_is_only_one(bench):
    _prepare(bench)
    for blocks, stale in ((4, 4), (1, 1)):
        bench.ask("b", b"SET cf-ad9361-lpc BUFFERS_COUNT %d\r\n" % blocks)
        receiver = Receiver(bench, 1000)
        bench.sleep(0.1)
        session = _transmit(bench, _tone(0.5))
        bench.sleep(1e-3)
        powers = [receiver.power() for _ in range(6)]
        assert all(power < 1e-4 for power in powers[:stale])
        assert all(power > 1e-3 for power in powers[stale:])
        session.close()
        receiver.session.close()


def test_who_keeps_up_gets_consecutive_samples_and_who_is_late_later_ones(bench):
    _prepare(bench)
    _transmit(bench, _tone(0.5, 64))
    receiver = Receiver(bench, 1000)
    joined = np.concatenate([receiver.read() for _ in range(8)])
    steps = np.angle(joined[1:] * joined[:-1].conj())
    assert np.abs(steps - 2 * np.pi * 4 / 64).max() < 0.3
    before = bench.medium.now()
    bench.sleep(1.0)
    assert bench.medium.now() - before > 1_900_000
    [receiver.read() for _ in range(5)]
    assert bench.medium.now() - before < 2_010_000


def test_blocks_play_one_after_the_other_and_then_it_is_quiet(bench):
    _prepare(bench)
    receiver = Receiver(bench, 512)
    session = _transmit(bench, _tone(0.5, 256), cyclic=False)
    again = b"WRITEBUF %s %d\r\n" % (TX_DEVICE, 1024) + _tone(0.25, 256)
    assert b"".join(session.receive(again)) == b"0\n1024\n"
    samples = receiver.read()
    first, second = (np.mean(np.abs(part[8:-8]) ** 2) for part in np.split(samples, 2))
    assert first / second == pytest.approx(4.0, rel=0.05)
    assert receiver.power() < 1e-4
    assert bench.medium.transmitting() == []


def test_a_full_ring_makes_the_writer_wait(bench):
    session = _transmit(bench, _tone(0.5, 2000), cyclic=False)
    more = b"WRITEBUF %s %d\r\n" % (TX_DEVICE, 8000) + _tone(0.5, 2000)
    for _ in range(3):
        list(session.receive(more))
    assert bench.now_s < 1e-4
    list(session.receive(more))
    assert bench.now_s == pytest.approx(1e-3, rel=0.01)


def test_one_client_transmits_at_a_time(bench):
    session = _transmit(bench, _tone(0.5))
    assert bench.ask("a", b"OPEN %s 64 00000003\r\n" % TX_DEVICE) == b"-16\n"
    second = b"WRITEBUF %s 256\r\n" % TX_DEVICE + _tone(0.5)
    assert b"".join(session.receive(second)) == b"0\n-16\n"


def test_a_rate_that_is_not_the_airs_opens_no_buffer(bench):
    bench.write("b", f"{RX} sampling_frequency", "4000000")
    assert bench.ask("b", OPEN_RX % 100) == b"-22\n"
    bench.write("b", f"{RX} sampling_frequency", "16000000")
    bench.write("b", "cf-ad9361-lpc INPUT voltage0 sampling_frequency", "2000000")
    assert bench.ask("b", OPEN_RX % 100) == b"0\n"


def test_one_channel_alone(bench):
    reply = bench.ask("b", b"OPEN cf-ad9361-lpc 64 00000002\r\nREADBUF cf-ad9361-lpc 200\r\n")
    head, mask, rest = reply[2:].split(b"\n", 2)
    assert (head, mask) == (b"128", b"00000002")
    assert rest[128:].split(b"\n", 1)[0] == b"72"


def test_settings_act_while_it_transmits(bench):
    _prepare(bench)
    _transmit(bench, _tone(0.5))
    bench.write("a", f"{TX} hardwaregain", "-20")
    assert bench.plutos["a"].radiated_dbm() == pytest.approx(-6.02 + 7 - 20, abs=0.01)
    bench.write("a", "ad9361-phy OUTPUT altvoltage1 powerdown", "1")
    assert bench.medium.transmitting() == []
    bench.write("a", "ad9361-phy OUTPUT altvoltage1 powerdown", "0")
    assert bench.medium.transmitting() == ["a"]
    bench.write("a", "ad9361-phy ensm_mode", "alert")
    assert bench.medium.transmitting() == []


def test_tones_radiate_when_no_buffer_does(bench):
    _prepare(bench)
    for index, phase in ((0, 90_000), (2, 0)):
        bench.write("a", f"{TONES % index} frequency", "250000")
        bench.write("a", f"{TONES % index} phase", str(phase))
        bench.write("a", f"{TONES % index} scale", "0.5")
    assert bench.plutos["a"].radiated_dbm() == pytest.approx(-6.02 + 7 - 10, abs=0.01)
    receiver = Receiver(bench, 1024)
    spectrum = np.abs(np.fft.fft(receiver.read())) ** 2
    assert np.argmax(spectrum) == 128
    assert spectrum[1024 - 128] < 1e-3 * spectrum[128]
    session = _transmit(bench, bytes(256))
    assert bench.plutos["a"].radiated_dbm() is None
    session.close()
    assert bench.medium.transmitting() == ["a"]
    for index in (0, 2):
        bench.write("a", f"{TONES % index} raw", "0")
    assert bench.medium.transmitting() == []


def test_an_attack_mode_sets_the_gain_itself(bench):
    _prepare(bench)
    _transmit(bench, _tone(0.5))
    bench.write("b", f"{RX} gain_control_mode", "slow_attack")
    level_db = 10 * np.log10(Receiver(bench, 2000).power())
    assert level_db == pytest.approx(-12.0, abs=1.1)
    gain_db = float(bench.read("b", f"{RX} hardwaregain").removesuffix(" dB"))
    arriving_dbm = -6.02 + 7 - 10 - 60
    assert level_db == pytest.approx(arriving_dbm + gain_db, abs=0.1)
    assert bench.read("b", f"{RX} rssi") == f"{-arriving_dbm:.2f} dB"


def test_the_oscillator_can_be_corrected(bench):
    _prepare(bench)
    _transmit(bench, np.full(64, 16384, "<i2").tobytes())
    bench.write("b", "ad9361-phy xo_correction", "40000400")
    samples = Receiver(bench, 4000).read()
    step = np.angle(np.sum(samples[1:] * samples[:-1].conj()))
    # the receiver now takes its oscillator for 10 ppm faster, so it tunes 10 ppm lower
    assert step / (2 * np.pi) * 2e6 == pytest.approx(24e3, rel=0.01)


def test_no_two_receivers_hear_the_same_noise(bench):
    captures = []
    for name in ("a", "b"):
        session = bench.session(name)
        list(session.receive(OPEN_RX % 5000))
        captures.append(_block(b"".join(session.receive(READ_RX % 20000))))
    noise = np.abs(np.vdot(*captures)) / np.linalg.norm(captures[0]) / np.linalg.norm(captures[1])
    assert noise < 5 / np.sqrt(5000)


def test_full_scale_is_what_the_reference_says(bench):
    reference = PowerReference()
    _transmit(bench, np.full(128, 32767, "<i2").tobytes())
    # I and Q at full scale are 3 dB above a carrier's
    expected = 2 * dbm_to_watt(reference.tx_full_scale_dbm) / 10
    assert bench.medium.radiated_w("a") == pytest.approx(expected, rel=2e-3)


@pytest.mark.parametrize(("name", "channel"), [("a", "altvoltage1"), ("b", "altvoltage0")])
def test_a_new_frequency_has_a_new_phase_and_the_same_one_has_not(bench, name, channel):
    _prepare(bench)
    _transmit(bench, np.full(64, 16384, "<i2").tobytes())

    def phase_after(*carriers: int) -> float:
        for carrier in carriers:
            bench.write(name, f"ad9361-phy OUTPUT {channel} frequency", str(carrier))
        receiver = Receiver(bench, 2000)
        got = float(np.angle(receiver.read().mean()))
        receiver.session.close()
        return got

    first = phase_after(LO)
    assert phase_after(LO) == pytest.approx(first, abs=0.02)
    moved = [phase_after(LO + 10_000, LO) for _ in range(4)]
    assert min(abs(np.exp(1j * np.array(moved)) - np.exp(1j * first))) > 0.05
