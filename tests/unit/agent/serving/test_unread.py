import threading

import pytest
from zmq import MessageTracker

from siftmoe.agent.errors import AgentBusy
from siftmoe.agent.serving import unread
from siftmoe.agent.serving.unread import Unread


@pytest.fixture
def account(monkeypatch):
    monkeypatch.setattr(unread, "MAX_UNREAD_BYTES", 1_000)
    return Unread()


def reply(account, peer, num_bytes):
    delivered = threading.Event()
    account.note(peer, MessageTracker(delivered), num_bytes)
    return delivered


def test_one_may_owe_what_is_free(account):
    reply(account, b"one", 499)
    account.check(b"one")
    first = reply(account, b"one", 1)
    with pytest.raises(AgentBusy, match="500 bytes of replies to you are not read"):
        account.check(b"one")
    account.check(b"two")  # who owes nothing may ask, however much others owe
    reply(account, b"two", 300)
    with pytest.raises(AgentBusy, match="300 bytes"):
        account.check(b"two")
    first.set()
    with pytest.raises(AgentBusy):  # replies leave in their order
        account.check(b"one")


def test_what_is_delivered_is_forgotten(account):
    delivered = [reply(account, b"one", 400), reply(account, b"one", 400)]
    with pytest.raises(AgentBusy):
        account.check(b"one")
    delivered[0].set()
    account.check(b"one")
    delivered[1].set()
    account.check(b"two")
    assert not account._sent


def test_replies_that_are_larger_than_all(account):
    reply(account, b"one", 5_000)
    account.check(b"two")
    with pytest.raises(AgentBusy):
        account.check(b"one")
