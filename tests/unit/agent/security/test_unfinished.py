"""Which connections are closed for a message that does not end; honest ones never are."""

import math

import pytest

from siftmoe.agent.security.connections import Progress
from siftmoe.agent.security.unfinished import CHECK_MS, Unfinished

FRAME = 1_000
LIMIT = FRAME + 16 * 1024 * 1024
BEYOND = LIMIT + 1


class Line:
    """A connection whose bytes a test counts."""

    def __init__(self, descriptor):
        self.descriptor, self.read = descriptor, 0

    def progress(self):
        if math.isnan(self.read):
            raise OSError("closed")
        return Progress(0, self.read)


class Bench:
    def __init__(self):
        self.now_s = 0.0
        self.looks = 0
        self.unfinished = Unfinished(max_frame_bytes=FRAME, clock=lambda: self.now_s)
        self.unfinished.ask(self._look)
        self.line, self.other = Line(7), Line(9)
        self.unfinished.begin(self.line)
        self.unfinished.begin(self.other)

    def _look(self):
        self.looks += 1

    def check(self):
        self.now_s += 1.01e-3 * CHECK_MS
        return [line for line, _ in self.unfinished.take_excess()]

    def emptied(self):
        self.now_s += 1e-3
        self.unfinished.emptied()


@pytest.fixture
def bench():
    return Bench()


def test_a_message_beyond_the_largest_is_endless_once_the_socket_was_empty(bench):
    bench.line.read = BEYOND
    assert bench.check() == []
    assert bench.looks == 1
    bench.emptied()
    assert bench.check() == [bench.line]
    assert bench.check() == []
    assert len(bench.unfinished) == 1


def test_the_largest_message_is_not(bench):
    bench.line.read = LIMIT
    for _ in range(5):
        assert bench.check() == []
        bench.emptied()


def test_messages_that_wait_at_a_busy_agent_are_not(bench):
    """The receiving thread computes for long, while a client sends without pause."""
    for _ in range(50):
        bench.line.read += 10 * BEYOND
        assert bench.check() == []
    for _ in range(30):  # it receives them, then finds no more
        bench.unfinished.complete(7)
    bench.emptied()
    for _ in range(3):
        assert bench.check() == []
        bench.emptied()


def test_an_empty_socket_before_the_bytes_proves_nothing(bench):
    bench.emptied()
    bench.line.read = BEYOND
    for _ in range(5):
        assert bench.check() == []


def test_a_message_that_ends_late_is_not(bench):
    bench.line.read = BEYOND
    bench.check()
    bench.unfinished.complete(7)
    bench.emptied()
    assert bench.check() == []
    bench.line.read += LIMIT
    for _ in range(3):
        assert bench.check() == []
        bench.emptied()


def test_messages_of_others_end_nothing_but_those_of_nobody_may(bench):
    bench.line.read = bench.other.read = BEYOND
    bench.check()
    bench.unfinished.complete(None)
    bench.emptied()
    assert bench.check() == []
    bench.line.read = bench.other.read = 3 * BEYOND
    bench.check()
    bench.unfinished.complete(9)
    bench.emptied()
    assert bench.check() == [bench.line]


def test_a_later_connection_with_the_same_descriptor_begins_anew(bench):
    bench.line.read = BEYOND
    bench.check()
    bench.unfinished.end(7)
    bench.unfinished.begin(Line(7))
    bench.emptied()
    assert bench.check() == []


def test_a_connection_that_is_closed_is_forgotten(bench):
    bench.line.read = math.nan
    assert bench.check() == []
    assert len(bench.unfinished) == 1
