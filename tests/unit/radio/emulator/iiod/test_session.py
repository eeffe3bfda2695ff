"""The protocol without sockets. Expected bytes are those of libiio 0.24's server."""

from __future__ import annotations

import xml.etree.ElementTree as ET

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from siftmoe.radio.emulator.iiod.syntax import MAX_LINE, MAX_VALUE

VERSION = b"0.24.v0.24  \n"
LO = b"ad9361-phy OUTPUT altvoltage1 frequency"


def test_print_describes_the_devices(bench):
    reply = bench.ask("a", b"PRINT\r\n")
    size, _, xml = reply.partition(b"\n")
    assert int(size) == len(xml) - 1
    root = ET.fromstring(xml)
    names = [device.get("name") for device in root.findall("device")]
    assert names == ["ad9361-phy", "cf-ad9361-dds-core-lpc", "cf-ad9361-lpc"]
    serials = [a.get("value") for a in root.findall("context-attribute[@name='hw_serial']")]
    assert serials == ["104a"]
    # an empty value crashes libiio 0.24
    assert all(value for element in root.iter() for value in element.attrib.values())


@pytest.mark.parametrize(
    ("command", "reply"),
    [
        (b"VERSION\r\n", VERSION),
        (b"version\n", VERSION),
        (b"\r\n\r\nTIMEOUT 100\r\n", b"0\n"),
        (b"ZPRINT\r\n", b"-22\n"),
        (b"GETTRIG cf-ad9361-lpc\r\n", b"-2\n"),
        (b"GETTRIG nothing\r\n", b"-19\n"),
        (b"READ nothing calib_mode\r\n", b"-19\n"),
        (b"READ ad9361-phy INPUT voltage7 rssi\r\n", b"-6\n"),
        (b"READ ad9361-phy nothing\r\n", b"-2\n"),
        (b"READ ad9361-phy calib_mode\r\n", b"5\nauto\0\n"),
        (b"READ iio:device0 calib_mode\r\n", b"5\nauto\0\n"),
        (b"READ ad9361-phy OUTPUT TX_LO powerdown\r\n", b"2\n0\0\n"),
        (b"READ ad9361-phy DEBUG loopback\r\n", b"2\n0\0\n"),
        (b"READ ad9361-phy dcxo_tune_fine\r\n", b"-19\n"),
        (b"READBUF cf-ad9361-lpc 64\r\n", b"-9\n"),
        (b"CLOSE cf-ad9361-lpc\r\n", b"-6\n"),
        (b"OPEN cf-ad9361-lpc 64 3\r\n", b"-22\n"),
        (b"OPEN cf-ad9361-lpc 0 00000003\r\n", b"-22\n"),
        (b"OPEN cf-ad9361-lpc 64 00000000\r\n", b"-22\n"),
        (b"OPEN cf-ad9361-lpc 99999999999 00000003\r\n", b"-22\n"),
        (b"SET cf-ad9361-lpc BUFFERS_COUNT 0\r\n", b"-22\n"),
        (b"SET cf-ad9361-lpc BUFFERS_COUNT 1\r\n", b"0\n"),
    ],
)
def test_replies(bench, command, reply):
    assert bench.ask("a", command) == reply


def test_a_value_may_come_in_pieces_and_is_taken_even_if_refused(bench):
    session = bench.session()
    assert b"".join(session.receive(b"WRITE " + LO + b" 11\r\n24000")) == b""
    assert b"".join(session.receive(b"00000\0VERSION\r\n")) == b"11\n" + VERSION
    refused = b"WRITE ad9361-phy nothing 7\r\nVERSIONVERSION\r\n"
    assert b"".join(session.receive(refused)) == b"-2\n" + VERSION


def test_what_a_peer_supplies_is_bounded(bench):
    session = bench.session()
    for _ in range(50):
        assert b"".join(session.receive(b"A" * MAX_LINE)) == b""
        assert len(session._input) <= 2 * MAX_LINE
    assert b"".join(session.receive(b"A\r\nVERSION\r\n")) == b"-22\n" + VERSION
    # such a value could not be skipped without reading it all, so the connection ends
    assert b"".join(session.receive(b"WRITE ad9361-phy x %d\r\n" % (MAX_VALUE + 1))) == b"-22\n"
    assert session.finished


PIECES = st.one_of(
    st.binary(max_size=40),
    st.sampled_from(
        [
            b"READ ad9361-phy ", b"WRITE ", b"OPEN cf-ad9361-lpc 64 00000003", b"CLOSE ",
            b"READBUF cf-ad9361-lpc ", b"WRITEBUF cf-ad9361-dds-core-lpc ", b"\r\n", b" ", b"64",
            b"OPEN cf-ad9361-dds-core-lpc 8 00000003 CYCLIC", b"cf-ad9361-lpc", b"\0", b"-1",
            b"INPUT voltage0 hardwaregain", b"SET cf-ad9361-lpc BUFFERS_COUNT ", b"99999999999999",
        ]
    ),
)  # fmt: skip


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(chunks=st.lists(PIECES, max_size=30))
def test_no_input_breaks_a_session(bench_factory, chunks):
    bench = bench_factory()
    session = bench.session()
    for chunk in chunks:
        list(session.receive(chunk))
    session.close()
    assert bench.medium.transmitting() == []
    assert bench.ask("a", b"VERSION\r\n") == VERSION
