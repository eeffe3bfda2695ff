"""What a plan sends in one band, and who hears it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from siftmoe.coordinator.energy.medium import Medium
from siftmoe.coordinator.energy.one_band import OneBand
from siftmoe.coordinator.selection.on_air import answers, heard, payloads, priced_energy, requests
from siftmoe.coordinator.selection.problem import LOCAL, NOBODY, SelectionPlan, Status

#: Helper 1 has the best link, helper 0 the worst.
BAND = OneBand(
    bandwidth_hz=1e6,
    window_s=0.1,
    noise_w=np.array([3e-6, 1e-6, 2e-6]),
    tx_power_limit_w=1.0,
    circuit_w=np.zeros(3),
)
MEDIUM = Medium(
    broadcast=True, up=BAND, down=BAND, bits={4: 400.0, 8: 800.0}, reply_bits={3: 300.0}
)
APART = replace(MEDIUM, broadcast=False)


def plan_of(helper, width) -> SelectionPlan:
    helper = np.array(helper)
    return SelectionPlan(
        helper=helper,
        expert=np.zeros_like(helper),
        weight=np.ones(helper.shape),
        width=np.array(width),
        status=Status.FEASIBLE,
        energy_j=0.0,
        lower_bound_j=0.0,
        deviation=np.zeros(len(helper)),
    )


PLAN = plan_of(
    [[1, 0, 1], [2, NOBODY, 1], [LOCAL, 1, NOBODY], [NOBODY, NOBODY, LOCAL]],
    [[4, 4, 4], [8, 0, 8], [0, 4, 0], [0, 0, 0]],
)


def test_a_token_is_broadcast_once_for_the_worst_of_its_helpers():
    token, helper, width = requests(MEDIUM, PLAN)
    assert token.tolist() == [0, 1, 2]
    assert helper.tolist() == [0, 2, 1]
    assert width.tolist() == [4, 8, 4]
    assert heard(MEDIUM, PLAN) == [[0, 1, 2], [1, 2], [1], []]


def test_by_time_division_each_helper_is_sent_its_own():
    token, helper, width = requests(APART, PLAN)
    assert list(zip(token.tolist(), helper.tolist(), width.tolist(), strict=True)) == [
        (0, 1, 4),
        (0, 0, 4),
        (1, 2, 8),
        (1, 1, 8),
        (2, 1, 4),
    ]
    assert heard(APART, PLAN) == [[1, 0], [2, 1], [1], []]


def test_payloads_and_energy_count_both_directions():
    up, down = payloads(MEDIUM, PLAN)
    assert up.tolist() == [400.0, 400.0, 800.0]
    assert down.tolist() == [300.0, 900.0, 300.0]
    assert len(answers(MEDIUM, PLAN)[0]) == 5
    both = BAND.divide(up).energy_j + BAND.divide(down).energy_j
    assert priced_energy(MEDIUM, PLAN) == pytest.approx(both, rel=1e-14)
    free = replace(MEDIUM, down=None)
    assert priced_energy(free, PLAN) == pytest.approx(BAND.divide(up).energy_j, rel=1e-14)
    assert payloads(APART, PLAN)[0].sum() == 400.0 * 3 + 800.0 * 2


def test_one_vector_has_one_width_for_all_who_hear_it():
    mixed = plan_of([[1, 0]], [[4, 8]])
    with pytest.raises(ValueError, match="token 0 at several widths"):
        requests(MEDIUM, mixed)
    assert requests(APART, mixed)[2].tolist() == [4, 8]


def test_other_widths_are_refused():
    with pytest.raises(ValueError, match="not \\[4, 8\\]"):
        payloads(MEDIUM, plan_of([[1]], [[5]]))


@pytest.mark.parametrize("sizes", [{}, {8: 1.0, 4: 2.0}, {4: 0.0}])
def test_bad_sizes_are_refused(sizes):
    with pytest.raises(ValueError, match="bits must be positive"):
        replace(MEDIUM, bits=sizes)
