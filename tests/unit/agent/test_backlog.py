import numpy as np
import pytest

from siftmoe.agent import backlog
from siftmoe.agent.backlog import Backlog
from siftmoe.agent.errors import AgentBusy, AgentStopping
from siftmoe.agent.protocol import Apply
from siftmoe.agent.service import Job


def job(number, *, rows=1):
    request = Apply(
        id=number,
        layer=0,
        hidden=np.zeros((rows, 4), np.float32),
        pairs=np.zeros((1, 2), np.int32),
        weights=np.ones(1, np.float32),
    )
    return Job(request=request, arrived_s=0.0, peer=b"")


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
    assert waiting.go_on() == [third]
    assert waiting.go_on() == []
    waiting.add(first)
    assert waiting.claim() == [first]


def test_it_is_bounded_in_number():
    waiting = Backlog(limit=2)
    waiting.add(job(1))
    waiting.add(job(2))
    with pytest.raises(AgentBusy, match="2 requests of 32 bytes"):
        waiting.add(job(3))
    waiting.claim()
    waiting.add(job(3))


def test_it_is_bounded_in_bytes_but_takes_one(monkeypatch):
    monkeypatch.setattr(backlog, "MAX_BYTES", 100)
    waiting = Backlog(limit=10)
    waiting.add(job(1, rows=1_000))
    with pytest.raises(AgentBusy, match="16000 bytes"):
        waiting.add(job(2))


def test_nothing_waits_in_a_closed_one():
    waiting = Backlog(limit=10)
    waiting.add(one := job(1))
    assert waiting.close() == [one]
    with pytest.raises(AgentStopping):
        waiting.add(job(2))
    assert waiting.claim() == []
