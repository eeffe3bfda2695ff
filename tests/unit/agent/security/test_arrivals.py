"""Failed handshakes, detected from the begins and ends of connections and from ZAP requests."""

from __future__ import annotations

import random

import pytest

from siftmoe.agent.security.arrivals import Arrivals


def test_who_was_asked_about_was_not_failed():
    arrivals = Arrivals()
    arrivals.begin(7, "10.0.0.1", now_s=0.0)
    arrivals.asked("10.0.0.1")
    assert arrivals.end(7, now_s=1.0) == ""


def test_who_ends_without_a_question_was():
    arrivals = Arrivals()
    arrivals.begin(7, "10.0.0.1", now_s=0.0)
    assert arrivals.end(7, now_s=0.1) == "10.0.0.1"


def test_an_unseen_connection_ends_without_a_word():
    arrivals = Arrivals()
    assert arrivals.end(7, now_s=0.1) == ""
    arrivals.asked("10.0.0.1")
    arrivals.begin(7, "10.0.0.1", now_s=0.2)
    assert arrivals.end(7, now_s=0.3) == "10.0.0.1"


def test_addresses_are_told_apart():
    arrivals = Arrivals()
    arrivals.begin(7, "10.0.0.1", now_s=0.0)
    arrivals.begin(8, "10.0.0.2", now_s=0.0)
    arrivals.asked("10.0.0.1")
    assert arrivals.end(8, now_s=0.1) == "10.0.0.2"
    assert arrivals.end(7, now_s=0.1) == ""


def test_beside_one_in_its_greeting_it_is_told_with_the_next():
    """Which of the two had the ZAP request is unknown until the other one ends or grows old."""
    arrivals = Arrivals(handshake_s=30.0)
    arrivals.begin(7, "10.0.0.1", now_s=0.0)
    arrivals.asked("10.0.0.1")
    arrivals.begin(8, "10.0.0.1", now_s=1.0)
    assert arrivals.end(8, now_s=1.1) == ""  # it may be 7 that is in its handshake
    arrivals.begin(8, "10.0.0.1", now_s=2.0)
    assert arrivals.end(8, now_s=2.1) == "10.0.0.1"


def test_beside_an_old_one_it_is_told_at_once():
    arrivals = Arrivals(handshake_s=30.0)
    arrivals.begin(7, "10.0.0.1", now_s=0.0)
    arrivals.asked("10.0.0.1")
    arrivals.begin(8, "10.0.0.1", now_s=40.0)
    assert arrivals.end(8, now_s=40.1) == "10.0.0.1"


@pytest.mark.parametrize("seed", range(20))
def test_nobody_is_accused_who_was_asked_about_and_nothing_is_kept(seed):
    """Random connections and ends: one address of admitted peers, one of strangers."""
    rng, arrivals = random.Random(seed), Arrivals(handshake_s=30.0)
    open_now: dict[int, str] = {}
    accused = []
    for step in range(400):
        now_s = 0.1 * step
        if open_now and rng.random() < 0.5:
            descriptor = rng.choice(sorted(open_now))
            del open_now[descriptor]
            accused.append(arrivals.end(descriptor, now_s=now_s))
            continue
        descriptor = next(n for n in range(1000) if n not in open_now)
        open_now[descriptor] = address = rng.choice(["friend", "stranger"])
        arrivals.begin(descriptor, address, now_s=now_s)
        if address == "friend":
            arrivals.asked(address)
    accused += [arrivals.end(descriptor, now_s=100.0) for descriptor in open_now]
    assert "friend" not in accused
    assert "stranger" in accused
    assert len(arrivals) == 0
