"""The check of an address: real sockets that refuse, are silent, close, or speak HTTP."""

from __future__ import annotations

import socket
import threading

import pytest

from siftmoe.radio.errors import DeviceNotFound
from siftmoe.radio.pluto.address import Address, require_answer


@pytest.mark.parametrize(
    ("uri", "host", "port"),
    [
        ("ip:192.168.2.1", "192.168.2.1", 30431),
        ("ip:pluto.local:5000", "pluto.local", 5000),
        ("usb:1.5.5", "", 0),
        ("usb:", "", 0),
    ],
)
def test_addresses_are_taken_apart(uri, host, port):
    address = Address.parse(uri)
    assert (address.uri, address.host, address.port) == (uri, host, port)
    assert address.is_network is bool(host)


@pytest.mark.parametrize(
    "uri",
    ["", "usb", "ip:", "ip::1", "ip:a:0", "ip:a:65536", "ip:a:b", "ip:a:1:2", "x:a"],
)
def test_what_is_no_address_is_refused(uri):
    with pytest.raises(ValueError, match="expected ip:HOST"):
        Address.parse(uri)


@pytest.fixture
def listener():
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server


def _address(server: socket.socket) -> Address:
    return Address.parse(f"ip:127.0.0.1:{server.getsockname()[1]}")


def _answering(server: socket.socket, reply: bytes) -> threading.Thread:
    def serve() -> None:
        connection, _ = server.accept()
        with connection:
            connection.recv(100)
            connection.sendall(reply)

    thread = threading.Thread(target=serve)
    thread.start()
    return thread


def test_a_refused_host_is_told_from_a_silent_one(listener):
    address = _address(listener)
    with pytest.raises(DeviceNotFound, match=r"no answer within 0\.2 s"):
        require_answer(address, timeout_s=0.2)
    listener.close()
    with pytest.raises(DeviceNotFound, match="Connection refused"):
        require_answer(address, timeout_s=5.0)


@pytest.mark.parametrize(
    ("reply", "message"),
    [
        (b"", "closed without an answer"),
        (b"HTTP/1.1 400 Bad. Request\r\n", "no IIO daemon"),
        (b"x" * 10_000, "no IIO daemon"),
    ],
)
def test_another_service_is_no_radio(listener, reply, message):
    thread = _answering(listener, reply)
    with pytest.raises(DeviceNotFound, match=message):
        require_answer(_address(listener), timeout_s=5.0)
    thread.join()


def test_an_iio_daemon_passes(listener):
    thread = _answering(listener, b"0.24.v0.24  \n")
    require_answer(_address(listener), timeout_s=5.0)
    thread.join()
    require_answer(Address.parse("usb:1.5.5"), timeout_s=0.1)


def test_an_unknown_host_name_is_told():
    with pytest.raises(DeviceNotFound, match="host name is unknown"):
        require_answer(Address.parse("ip:no-such-host.invalid"), timeout_s=1.0)
