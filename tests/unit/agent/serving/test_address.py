import socket

import pytest
import zmq

from siftmoe.agent.errors import AddressInUse, AddressUnusable
from siftmoe.agent.serving.address import check_address, is_loopback
from siftmoe.agent.serving.sockets import endpoint_of, open_router


@pytest.fixture
def context():
    with zmq.Context() as context:
        yield context


def bind(context, address, **options):
    return open_router(context, address, insecure=False, **options)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.9.1", "localhost", "[::1]"])
def test_loopback_is_allowed(host):
    assert is_loopback(host)
    check_address(f"tcp://{host}:5555", insecure=False)


@pytest.mark.parametrize("host", ["0.0.0.0", "*", "192.168.1.4", "board.local", "[::]"])
def test_an_open_address_needs_a_word(host):
    with pytest.raises(AddressUnusable, match="--insecure"):
        check_address(f"tcp://{host}:5555", insecure=False)
    check_address(f"tcp://{host}:5555", insecure=True)


@pytest.mark.parametrize(
    "address",
    [
        *("", "5555", "tcp://", "tcp://127.0.0.1", "tcp://127.0.0.1:0", "tcp://127.0.0.1:70000"),
        *("udp://127.0.0.1:1", "inproc://x", "ipc://", "tcp://127.0.0.1:http"),
    ],
)
def test_what_is_no_address_is_refused(address):
    with pytest.raises(AddressUnusable, match="address"):
        check_address(address, insecure=False)


def test_a_taken_port_is_named(context):
    first = bind(context, "tcp://127.0.0.1:*")
    taken = endpoint_of(first)
    with pytest.raises(AddressInUse, match=taken):
        bind(context, taken)
    first.close()


def test_a_living_agents_path_is_not_taken_over(context, tmp_path):
    address = f"ipc://{tmp_path}/agent"
    first = bind(context, address)
    with pytest.raises(AddressInUse, match=address):
        bind(context, address)
    first.close()


def test_a_dead_agents_path_is_reused(context, tmp_path):
    path = tmp_path / "agent"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    assert path.is_socket()
    bind(context, f"ipc://{path}").close()


def test_paths_that_cannot_be_bound(tmp_path):
    (tmp_path / "file").write_text("precious")
    with pytest.raises(AddressUnusable, match="no socket stands there"):
        check_address(f"ipc://{tmp_path}/file", insecure=False)
    with pytest.raises(AddressUnusable, match="does not exist"):
        check_address(f"ipc://{tmp_path}/no/agent", insecure=False)
    with pytest.raises(AddressUnusable, match="at most 107 bytes"):
        check_address(f"ipc://{tmp_path}/{'x' * 120}", insecure=False)


def test_an_address_of_another_machine_cannot_be_bound(context):
    with pytest.raises(AddressUnusable, match="cannot be bound"):
        open_router(
            context,
            "tcp://203.0.113.7:5555",
            insecure=True,
        )
