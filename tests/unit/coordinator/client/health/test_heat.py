"""When a board is too hot to be used, and when it has cooled."""

from __future__ import annotations

from typing import Any

from siftmoe.agent.wire.protocol import StatsReply
from siftmoe.coordinator.client.health.heat import Heats, hot


def stats(**figures: Any) -> StatsReply:
    return StatsReply(id=1, counters={}, **figures)


def at(celsius: float) -> StatsReply:
    return stats(temperature_c={"CPU": celsius}, limit_c={"CPU": 95.0})


def test_it_goes_at_its_limit_and_returns_clearly_below() -> None:
    heats = Heats(cool_k=5.0)
    assert heats.why_leave(at(94.9)) == ""
    assert heats.why_leave(at(95.0)) == "CPU 95 of 95 °C"
    assert not heats.may_return(at(90.0))
    assert heats.may_return(at(89.9))


def test_any_measure_against_heat_counts() -> None:
    heats = Heats()
    slowed = stats(throttling={"cpu-throttle-alert": 0.0, "thermal-cpufreq-0": 0.1})
    assert heats.why_leave(slowed) == "thermal-cpufreq-0 10%"
    assert not heats.may_return(slowed)


def test_a_board_without_sensors_is_never_hot() -> None:
    assert hot(stats(), margin_k=5.0) == []
    assert hot(stats(temperature_c={"CPU": 200.0}), margin_k=5.0) == []
    assert hot(stats(limit_c={"CPU": 1.0}), margin_k=5.0) == []


def test_an_agent_is_asked_at_once_and_then_in_turn_until_it_is_gone() -> None:
    heats = Heats(ask_s=2.0)
    assert heats.patience_s(10.0, now_s=0.0) == 10.0
    heats.begin(3, now_s=1.0)
    assert heats.due(now_s=1.0) == [3]
    assert heats.due(now_s=2.9) == []
    assert heats.patience_s(10.0, now_s=2.0) == 1.0
    assert heats.due(now_s=3.0) == [3]
    heats.end(3)
    assert heats.due(now_s=99.0) == []


def test_only_the_answer_to_the_last_question_counts() -> None:
    heats = Heats()
    heats.ask(0, 7)
    assert heats.is_answer(0, 7)
    assert not heats.is_answer(1, 7)
    heats.ask(0, 9)
    assert not heats.is_answer(0, 7)
