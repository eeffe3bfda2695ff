"""Rows drawn for a second computation: how many, which, and by whom."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scaling_experts import E, plan_of, vectors

from siftmoe.coordinator.dispatch.grouping import group
from siftmoe.coordinator.dispatch.sampling import Sampler, check_bits, with_checks
from siftmoe.coordinator.selection.problem import LOCAL, NOBODY

PLAN = plan_of([[0, 0, 1], [2, NOBODY, 1]], [[0, 1, 2], [3, E, 2]], [[0.5, 0.25, 1.0], [1, 0, 2]])


def sampler(one_in: int, seed: int = 0) -> Sampler:
    return Sampler(one_in, np.random.default_rng(seed))


def hosts(*experts: set[int]) -> NDArray[np.bool_]:
    return np.array([[e in held for e in range(E)] for held in experts])


def test_one_row_in_n_is_drawn_however_they_come() -> None:
    drawn, rng = sampler(16), np.random.default_rng(1)
    counts = rng.integers(0, 9, size=40_000)
    found = sum(len(drawn.draw(int(count))) for count in counts)
    mean = counts.sum() / 16
    assert abs(found - mean) < 5.0 * np.sqrt(mean)  # five standard deviations of a binomial


def test_every_row_is_drawn_where_that_is_asked_for() -> None:
    assert sampler(1).draw(4) == [0, 1, 2, 3]
    with pytest.raises(ValueError, match="at least 1"):
        sampler(0)


def test_a_row_is_computed_again_by_another_host_of_all_its_experts() -> None:
    able = hosts({0, 1}, {2}, {3}, {0, 1, 2})
    checks = sampler(1).choose(PLAN, lambda: able, local=False, reply_width=32)
    assert [(c.token, c.suspect, c.replica) for c in checks] == [(0, 0, 3), (0, 1, 3), (1, 1, 3)]
    assert checks[0].expert.tolist() == [0, 1]
    assert checks[0].weight.tolist() == [0.5, 0.25]


def test_a_row_of_experts_on_two_other_hosts_is_not_checked() -> None:
    able = hosts({0, 1}, {2}, {3}, {0}, {1})
    assert sampler(1).choose(PLAN, lambda: able, local=False, reply_width=32) == []


def test_checks_are_ordinary_rows_whose_bits_are_known() -> None:
    able = hosts({0, 1}, {2}, {3}, {0, 1, 2})
    checks = sampler(1).choose(PLAN, lambda: able, local=False, reply_width=32)
    hidden = vectors(2)
    shares = group(*with_checks(PLAN, hidden, checks), layer=0)
    replica = next(share for share in shares if share.helper == 3)
    assert replica.tokens.tolist() == [2, 3, 4]
    np.testing.assert_array_equal(np.asarray(replica.hidden), hidden[[0, 0, 1]])
    assert check_bits(checks, hidden.shape[1]) == {3: (replica.payload_bits,) * 2}


def test_the_users_device_adds_no_row() -> None:
    checks = sampler(1).choose(PLAN, lambda: hosts(*[set()] * 3), local=True, reply_width=32)
    assert {check.replica for check in checks} == {LOCAL}
    plain = group(PLAN, vectors(2), layer=0)
    shares = group(*with_checks(PLAN, vectors(2), checks), layer=0)
    assert [s.tokens.tolist() for s in shares] == [s.tokens.tolist() for s in plain]
    assert check_bits(checks, 3) == {}
