"""Handshakes that are refused, and peers that do not respond."""

from __future__ import annotations

from siftmoe.coordinator.client.health.liveness import LinkEvent
from siftmoe.coordinator.client.health.retry import BROKEN_GREETINGS, RETRY_S, Retries


def greet(retries: Retries, *, now_s: float, lasting_s: float) -> LinkEvent | None:
    retries.observe(0, LinkEvent.ACCEPTED, now_s=now_s)
    return retries.observe(0, LinkEvent.LOST, now_s=now_s + lasting_s)


def test_who_drops_greetings_at_once_refuses_and_is_tried_again() -> None:
    retries = Retries()
    outcomes = [greet(retries, now_s=0.01 * n, lasting_s=0.001) for n in range(BROKEN_GREETINGS)]
    assert outcomes == [LinkEvent.LOST] * (BROKEN_GREETINGS - 1) + [LinkEvent.STRANGE]
    assert retries.due(now_s=0.1) == []
    assert retries.due(now_s=0.1 + RETRY_S) == [0]


def test_who_says_nothing_until_a_greeting_is_given_up_refuses_nothing() -> None:
    retries = Retries()
    for n in range(3 * BROKEN_GREETINGS):
        assert greet(retries, now_s=31.0 * n, lasting_s=30.0) is LinkEvent.LOST
    assert retries.given_up(now_s=1e6) == []


def test_a_greeting_that_succeeds_clears_what_broke_before() -> None:
    retries = Retries()
    for _ in range(3):
        for n in range(BROKEN_GREETINGS - 1):
            assert greet(retries, now_s=0.01 * n, lasting_s=0.001) is LinkEvent.LOST
        retries.observe(0, LinkEvent.ACCEPTED, now_s=0.05)
        assert retries.observe(0, LinkEvent.GREETED, now_s=0.06) is LinkEvent.GREETED
