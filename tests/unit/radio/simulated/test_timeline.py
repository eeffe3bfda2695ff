"""A timeline against a plain dictionary of every clock."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from siftmoe.radio.simulated.timeline import MAX_CHANGES, Timeline

CLOCKS = st.integers(0, 30)
STEPS = st.lists(
    st.tuples(st.sampled_from(["set", "change", "forget"]), CLOCKS, st.integers(1, 9)), max_size=12
)


@given(steps=STEPS, start=CLOCKS, length=st.integers(0, 20))
def test_a_timeline_is_what_every_clock_would_say(steps, start, length):
    timeline, plain, oldest = Timeline(0), dict.fromkeys(range(60), 0), 0
    for kind, clock, value in steps:
        if kind == "set":
            timeline.set(clock, value)
            plain.update(dict.fromkeys(range(clock, 60), value))
        elif kind == "change":
            timeline.change(clock, lambda old, by=value: old * 10 + by)
            plain.update({c: plain[c] * 10 + value for c in range(clock, 60)})
        else:
            timeline.forget(clock)
            oldest = max(oldest, clock)
    for clock in range(oldest, 60):
        assert timeline.at(clock) == plain[clock]
    start = max(start, oldest)
    pieces = list(timeline.pieces(start, start + length))
    spread = [value for a, b, value in pieces for _ in range(a, b)]
    assert spread == [plain.get(c, plain[59]) for c in range(start, start + length)]
    assert all(a < b for a, b, _ in pieces)


def test_it_does_not_grow_without_bound():
    timeline = Timeline(-1)
    for clock in range(MAX_CHANGES + 100):
        timeline.set(clock, clock)
    assert timeline.at(MAX_CHANGES + 50) == MAX_CHANGES + 50
    assert len(list(timeline.pieces(-10, MAX_CHANGES + 100))) <= MAX_CHANGES
