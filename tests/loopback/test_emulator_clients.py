"""Emulated Plutos with independent clients: Debian's libiio, its tools, its server.

The real `iiod` stands in front of an emulated Pluto as a proxy: the same bytes go to both, and both
must answer the same.
"""

from __future__ import annotations

import json
import re
import shutil
import socket
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import numpy as np
import pytest

from siftmoe.radio.emulator.launch import EmulatedPlutos

if TYPE_CHECKING:
    from collections.abc import Iterator

PATH = "/usr/sbin:/usr/bin:/sbin:/bin"
RX, TX = b"cf-ad9361-lpc", b"cf-ad9361-dds-core-lpc"
#: Ends the answers to a command: the session is over after it.
END = b"EXIT\r\n"


@pytest.fixture(scope="module")
def plutos() -> Iterator[EmulatedPlutos]:
    with EmulatedPlutos(2) as running:
        yield running


def _address(uri: str) -> tuple[str, int]:
    _, host, port = uri.split(":")
    return host, int(port)


@pytest.fixture(scope="module")
def proxy(plutos: EmulatedPlutos) -> Iterator[tuple[str, int]]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    program = shutil.which("iiod", path=PATH)
    assert program is not None, "the package iiod is missing"
    process = subprocess.Popen(
        [program, "-u", plutos.uris[0], "-p", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        for _ in range(200):
            try:
                socket.create_connection(("127.0.0.1", port)).close()
                break
            except ConnectionRefusedError:
                time.sleep(0.05)
        yield "127.0.0.1", port
    finally:
        process.kill()
        process.wait()


def _talk(address: tuple[str, int], data: bytes) -> bytes:
    with socket.create_connection(address, timeout=20) as connection:
        connection.sendall(data)
        answer = b""
        while part := connection.recv(1 << 16):
            answer += part
        return answer


def _attribute(where: bytes, value: bytes) -> bytes:
    return b"WRITE ad9361-phy %s %d\r\n%s" % (where, len(value), value)


def _open(device: bytes, count: int, rest: bytes = b"00000003") -> bytes:
    return b"OPEN %s %d %s\r\n" % (device, count, rest)


def _send(count: int) -> bytes:
    return b"WRITEBUF %s %d\r\n" % (TX, count) + b"\1" * count


COMMANDS = [
    *(b"VERSION\r\n", b"version\n", b"Version\r\n", b" VERSION\r\n", b"VERSION x\r\n"),
    *(b"TIMEOUT 1000\r\n", b"TIMEOUT abc\r\n", b"TIMEOUT\r\n", b"\r\n", b"   \r\n"),
    *(b"FOO\r\n", b"FOO bar\r\n", b"ZPRINT\r\n", b"\x00\xff\xfe rubbish\r\n"),
    b"A" * 2000 + b"\r\n",
    *(b"GETTRIG %s\r\n" % RX, b"GETTRIG nothing\r\n", b"SETTRIG %s\r\n" % RX),
    b"SETTRIG %s trigger\r\n" % RX,
    *(b"READ\r\n", b"READ ad9361-phy\r\n", b"READ ad9361-phy calib_mode\r\n"),
    *(b"READ iio:device0 calib_mode\r\n", b"READ ad9361-phy nothing\r\n"),
    *(b"READ nothing calib_mode\r\n", b"READ nothing INPUT voltage0 x\r\n"),
    *(b"READ ad9361-phy dcxo_tune_fine\r\n", b"READ ad9361-phy filter_fir_config\r\n"),
    *(b"READ ad9361-phy tx_path_rates\r\n", b"READ ad9361-phy DEBUG loopback\r\n"),
    *(b"READ ad9361-phy DEBUG nothing\r\n", b"READ %s BUFFER watermark\r\n" % RX),
    *(b"READ %s BUFFER nothing\r\n" % RX, b"READ %s INPUT voltage0 samples_pps\r\n" % RX),
    b"READ ad9361-phy INPUT voltage0 hardwaregain\r\n",
    b"READ ad9361-phy OUTPUT voltage0 hardwaregain\r\n",
    b"READ ad9361-phy OUTPUT TX_LO frequency\r\n",
    b"READ ad9361-phy OUTPUT altvoltage0 frequency\r\n",
    b"READ ad9361-phy INPUT voltage9 hardwaregain\r\n",
    b"READ ad9361-phy INPUT voltage0 nothing\r\n",
    b"READ ad9361-phy SIDEWAYS voltage0 rssi\r\n",
    _attribute(b"OUTPUT altvoltage1 frequency", b"2400000000\0"),
    b"READ ad9361-phy OUTPUT altvoltage1 frequency\r\n",
    _attribute(b"OUTPUT altvoltage1 frequency", b"2400000001"),
    b"READ ad9361-phy OUTPUT altvoltage1 frequency\r\n",
    _attribute(b"OUTPUT altvoltage1 frequency", b"100000000000"),
    _attribute(b"OUTPUT altvoltage1 frequency", b"abc\0"),
    _attribute(b"OUTPUT voltage0 hardwaregain", b"-10.30\0"),
    b"READ ad9361-phy OUTPUT voltage0 hardwaregain\r\n",
    _attribute(b"OUTPUT voltage0 hardwaregain", b"-90.0\0"),
    _attribute(b"OUTPUT nothing hardwaregain", b"1\0"),
    _attribute(b"INPUT voltage0 rssi", b"abc"),
    _attribute(b"calib_mode_available", b"abc"),
    _attribute(b"nothing", b"abc"),
    _attribute(b"DEBUG loopback", b"1\0"),
    _attribute(b"DEBUG loopback", b"0\0"),
    b"WRITE nothing x 3\r\nabc\r\n",
    *(b"WRITE ad9361-phy x\r\n", b"WRITE ad9361-phy nothing x\r\n"),
    *(b"CLOSE %s\r\n" % RX, b"CLOSE nothing\r\n", _open(RX, 1024) + b"CLOSE %s\r\n" % RX),
    *(_open(RX, 1024, b"3"), _open(RX, 0), _open(RX, 1024, b"00000000")),
    *(_open(RX, 1024, b"0000000000000003"), _open(RX, 1024, b"zzzzzzzz")),
    *(_open(RX, 1024, b"00000003 SIDEWAYS"), _open(RX, 1024, b"00000004")),
    *(_open(b"nothing", 1024), _open(b"ad9361-phy", 1024), b"OPEN %s abc 00000003\r\n" % RX),
    *(b"READBUF %s 1024\r\n" % RX, b"READBUF nothing 1024\r\n", b"READBUF %s abc\r\n" % RX),
    *(_open(RX, 64) + b"READBUF %s 2\r\n" % RX, b"WRITEBUF %s 1024\r\n" % TX),
    *(b"SET %s BUFFERS_COUNT %d\r\n" % (RX, n) for n in (0, 1, 4)),
    *(b"SET nothing BUFFERS_COUNT 1\r\n", b"SET ad9361-phy BUFFERS_COUNT 1\r\n"),
    b"SET %s SOMETHING 1\r\n" % RX,
    _open(TX, 4, b"00000003 CYCLIC") + _send(16),
    _open(TX, 4, b"00000003 CYCLIC") + _send(16) + _send(16) + b"VERSION\r\n",
    _open(TX, 4) + _send(32) + b"VERSION\r\n",
    _open(TX, 4) + b"WRITEBUF %s 2\r\nVERSION\r\n" % TX,
    _open(TX, 64) + b"READBUF %s 256\r\nVERSION\r\n" % TX,
    _open(RX, 4) + b"WRITEBUF %s 16\r\n" % RX + b"\1" * 16 + b"VERSION\r\n",
]  # fmt: skip


@pytest.mark.parametrize("command", COMMANDS, ids=lambda c: c[:60].decode("ascii", "replace"))
def test_answers_are_those_of_the_real_server(plutos, proxy, command):
    expected = _talk(proxy, command + END)
    assert _talk(_address(plutos.uris[0]), command + END) == expected


@pytest.mark.parametrize(
    ("mask", "wanted"), [("00000003", 512), ("00000003", 256), ("00000001", 200), ("00000002", 129)]
)
def test_samples_are_framed_as_by_the_real_server(plutos, proxy, mask, wanted):
    command = _open(RX, 64, mask.encode()) + b"READBUF %s %d\r\n" % (RX, wanted)

    def frame(address: tuple[str, int]) -> list[bytes]:
        answer, lines = _talk(address, command + b"VERSION\r\n" + END), []
        while answer:
            line, _, answer = answer.partition(b"\n")
            lines.append(line)
            if re.fullmatch(rb"[0-9a-f]{8}", line) and lines[-2].isdigit():
                answer = answer[int(lines[-2]) :]
            elif len(lines) > 3 and line.isdigit() and line != b"0":
                answer = answer[int(line) :]
        return lines

    assert frame(_address(plutos.uris[0])) == frame(proxy)


def _tool(*words: str, data: bytes | None = None) -> bytes:
    done = subprocess.run(words, input=data, capture_output=True, timeout=60, check=False)
    assert done.returncode == 0, done
    return done.stdout


def test_iio_info_lists_the_devices(plutos):
    text = _tool("iio_info", "-u", plutos.uris[1]).decode()
    assert f"hw_serial: {plutos.serials[1]}" in text
    for name in ("ad9361-phy", "cf-ad9361-dds-core-lpc", "cf-ad9361-lpc"):
        assert f": {name}" in text
    assert "index: 1, format: le:S12/16>>0" in text
    assert "index: 0, format: le:S16/16>>0" in text
    # only what a Pluto lacks too
    assert {
        line.split("ERROR")[0].split()[-1] for line in text.splitlines() if "ERROR" in line
    } <= {
        "samples_pps",
        "dcxo_tune_coarse",
        "dcxo_tune_fine",
    }


def test_the_same_context_is_seen_through_the_proxy(plutos, proxy):
    def tree(uri: str) -> list[str]:
        lines = _tool("iio_info", "-u", uri).decode().splitlines()
        # whoever serves tells its own address and version
        return [line for line in lines if "127.0." not in line and "Backend" not in line]

    assert tree(f"ip:{proxy[0]}:{proxy[1]}") == tree(plutos.uris[0])


def test_iio_attr_reads_and_writes(plutos):
    where = ["-u", plutos.uris[1], "-c", "-o", "ad9361-phy", "TX_LO", "frequency"]
    _tool("iio_attr", *where, "1234567890")
    assert b"1234567890" in _tool("iio_attr", *where)


def test_iio_readdev_hears_what_iio_writedev_sends(plutos):
    for uri in plutos.uris:
        for channel in ("RX_LO", "TX_LO"):
            where = ["-u", uri, "-c", "-o", "ad9361-phy", channel, "frequency"]
            _tool("iio_attr", *where, "2400000000")
    phase = 2 * np.pi * 5 * np.arange(1000) / 1000
    wave = np.stack([np.cos(phase), np.sin(phase)], axis=1) * 16384
    sender = subprocess.Popen(
        ["iio_writedev", "-u", plutos.uris[0], "-c", "-b", "1000", TX.decode()],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
    )
    try:
        assert sender.stdin is not None
        sender.stdin.write(np.round(wave).astype("<i2").tobytes())
        sender.stdin.flush()
        for _ in range(100):
            if plutos.transmitting():
                break
            time.sleep(0.05)
        data = _tool("iio_readdev", "-u", plutos.uris[1], "-b", "2000", "-s", "2000", RX.decode())
    finally:
        sender.kill()
        sender.communicate()
    samples = np.frombuffer(data, "<i2").astype(float).view(np.complex128)
    assert len(samples) == 2000
    spectrum = np.abs(np.fft.fft(samples)) ** 2
    offset_hz = plutos.cfo_hz("pluto-0", "pluto-1", 2.4e9)
    assert np.argmax(spectrum) * 1000 == pytest.approx(10_000 + offset_hz, abs=1000)


PYADI = """
import json, sys
import adi
import numpy as np
from siftmoe.radio.sounding.sounder import FRAME_LENGTH, frame
from siftmoe.radio.sounding.sync import Search, acquire

sender, receiver = (adi.Pluto(uri) for uri in sys.argv[1:3])
for radio in (sender, receiver):
    radio.sample_rate = 2_000_000
    radio.rx_lo = radio.tx_lo = 2_400_000_000
    radio.gain_control_mode_chan0 = "manual"
    radio.rx_hardwaregain_chan0 = 50
    radio.tx_hardwaregain_chan0 = -10
sender.tx_cyclic_buffer = True
sender.tx(frame() * 2**15)
receiver.rx_buffer_size = 2 * FRAME_LENGTH
found = acquire(receiver.rx() / 2**11, Search(sample_rate_hz=2e6, cfo_hz=0.0, cfo_range_hz=120e3))
print(json.dumps({"detected": bool(found.detected), "cfo_hz": found.cfo_hz,
                  "std_hz": found.cfo_std_hz, "rates": [sender.sample_rate, receiver.sample_rate],
                  "gain": receiver.rx_hardwaregain_chan0, "repr": repr(sender)}))
receiver.rx_destroy_buffer()
sender.tx_destroy_buffer()
"""


def test_a_burst_goes_from_one_pyadi_client_to_the_other(plutos):
    # in a process of its own, since libiio can crash one
    got = json.loads(_tool(sys.executable, "-c", PYADI, *plutos.uris))
    assert got["detected"]
    assert got["rates"] == [2_000_000, 2_000_000]
    assert got["gain"] == 50
    assert "sample_rate" in got["repr"]
    true = plutos.cfo_hz("pluto-0", "pluto-1", 2.4e9)
    assert got["cfo_hz"] == pytest.approx(true, abs=5 * got["std_hz"])
    assert plutos.transmitting() == []
