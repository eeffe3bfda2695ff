import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from siftmoe.agent.errors import AgentBusy, AgentStopping
from siftmoe.agent.service import backlog
from siftmoe.agent.service.backlog import Backlog
from siftmoe.agent.service.requests import Job
from siftmoe.agent.wire.protocol import Apply


def job(number, *, rows=1, pairs=1, peer=b"one"):
    request = Apply(
        id=number,
        layer=0,
        hidden=np.zeros((rows, 4), np.float32),
        pairs=np.zeros((pairs, 2), np.int32),
        weights=np.ones(pairs, np.float32),
    )
    return Job(request=request, arrived_s=0.0, peer=peer)


def add(waiting, *jobs):
    for one in jobs:
        waiting.add(one)


def ids(jobs):
    return [one.request.id for one in jobs]


def drain(waiting):
    """Turns until nothing waits."""
    turns = [ids(waiting.claim())]
    while turns[-1]:
        turns.append(ids(waiting.take_next()))
    return turns[:-1]


def test_one_has_the_turn_until_nothing_waits():
    waiting = Backlog(limit=10)
    assert waiting.claim() == []
    first, second, third = job(1), job(2), job(3)
    waiting.add(first)
    waiting.add(second)
    assert len(waiting) == 2
    assert waiting.claim() == [first, second]
    waiting.add(third)
    assert waiting.claim() == []
    assert waiting.take_next() == [third]
    assert waiting.take_next() == []
    waiting.add(first)
    assert waiting.claim() == [first]


def test_a_turn_is_bounded_but_takes_one(monkeypatch):
    monkeypatch.setattr(backlog, "TURN_PAIRS", 10)
    waiting = Backlog(limit=100)
    add(waiting, job(1, pairs=1_000), *(job(n, pairs=4) for n in range(2, 7)))
    assert drain(waiting) == [[1], [2, 3, 4], [5, 6]]


def test_clients_take_turns_by_cost(monkeypatch):
    monkeypatch.setattr(backlog, "TURN_PAIRS", 1)
    waiting = Backlog(limit=100)
    add(waiting, *(job(n, pairs=4, peer=b"large") for n in range(3)))
    add(waiting, *(job(10 + n, pairs=2, peer=b"small") for n in range(6)))
    assert drain(waiting) == [[0], [10], [11], [1], [12], [13], [2], [14], [15]]


def test_a_newcomer_is_next_however_much_waits(monkeypatch):
    monkeypatch.setattr(backlog, "TURN_PAIRS", 4)
    waiting = Backlog(limit=200)
    add(waiting, *(job(n, peer=b"greedy") for n in range(100)))
    assert ids(waiting.claim()) == [0, 1, 2, 3]
    waiting.add(job(500, peer=b"modest"))
    assert 500 in ids(waiting.take_next())


def test_what_is_being_computed_counts(monkeypatch):
    """A client that was served a large request waits for clients that were not served."""
    waiting = Backlog(limit=100)
    waiting.add(job(1, pairs=600, peer=b"greedy"))
    assert ids(waiting.claim()) == [1]
    add(waiting, job(2, pairs=600, peer=b"greedy"), job(3, peer=b"modest"))
    assert ids(waiting.take_next()) == [3, 2]
    assert waiting.take_next() == []
    add(waiting, job(4, peer=b"greedy"), job(5, peer=b"modest"))  # all debts are paid
    assert ids(waiting.claim()) == [4, 5]


@given(
    st.lists(st.tuples(st.integers(0, 4), st.integers(1, 40)), min_size=1, max_size=60),
    st.integers(1, 50),
)
def test_nobody_gets_more_than_a_share_while_others_wait(sent, turn):
    """While two clients wait, their served costs differ by their largest requests at most."""
    waiting = Backlog(limit=10_000)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(backlog, "TURN_PAIRS", turn)
        for number, (peer, pairs) in enumerate(sent):
            waiting.add(job(number, pairs=pairs, peer=b"%d" % peer))
        order = [number for turn in drain(waiting) for number in turn]
    assert sorted(order) == list(range(len(sent)))
    total = [sum(cost for peer, cost in sent if peer == which) for which in range(5)]
    largest = [max((cost for peer, cost in sent if peer == w), default=0) for w in range(5)]
    served = [0] * 5
    for number in order:
        served[sent[number][0]] += sent[number][1]
        still = [which for which in range(5) if served[which] < total[which]]
        for a in still:
            for b in still:
                assert abs(served[a] - served[b]) <= largest[a] + largest[b]


def test_one_client_may_have_what_is_free():
    waiting = Backlog(limit=12)
    for peer, share in ((b"first", 6), (b"second", 3), (b"third", 2), (b"fourth", 1)):
        add(waiting, *(job(n, peer=peer) for n in range(share)))
        with pytest.raises(AgentBusy, match=f"{share} of {share * 28} bytes of them yours"):
            waiting.add(job(99, peer=peer))
    assert waiting.figures() == {"queued": 12.0, "queued_bytes": 12 * 28.0, "queued_clients": 4.0}
    with pytest.raises(AgentBusy, match="0 of 0 bytes of them yours; the limit is 12"):
        waiting.add(job(99, peer=b"fifth"))
    waiting.claim()
    waiting.add(job(99, peer=b"fifth"))


def test_it_is_bounded_in_bytes_but_takes_one(monkeypatch):
    monkeypatch.setattr(backlog, "MAX_BYTES", 100)
    waiting = Backlog(limit=10)
    waiting.add(job(1, rows=1_000))
    with pytest.raises(AgentBusy, match="16012 bytes"):
        waiting.add(job(2))
    with pytest.raises(AgentBusy):
        waiting.add(job(2, peer=b"another"))
    assert waiting.figures()["queued_bytes"] == 16_012
    waiting.claim()
    assert waiting.figures() == {"queued": 0.0, "queued_bytes": 0.0, "queued_clients": 0.0}


def test_clients_who_went_are_forgotten():
    """A client that takes a new routing id for each request must not fill the memory."""
    waiting = Backlog(limit=8)
    waiting.add(job(0, peer=b"stays"))
    waiting.claim()
    for number in range(1_000):
        waiting.add(job(number, peer=b"%d" % number))
        waiting.take_next()
        assert len(waiting._clients) <= 16


def test_nothing_waits_in_a_closed_one():
    waiting = Backlog(limit=10)
    add(waiting, one := job(1), two := job(2, peer=b"two"))
    assert waiting.close() == [one, two]
    with pytest.raises(AgentStopping):
        waiting.add(job(2))
    assert waiting.claim() == []
