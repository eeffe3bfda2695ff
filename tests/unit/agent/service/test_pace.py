import math

import numpy as np
import pytest

from siftmoe.agent.service.pace import Pace
from siftmoe.agent.service.requests import Job
from siftmoe.agent.wire.protocol import Apply


def job(pairs):
    request = Apply(
        id=1,
        layer=0,
        hidden=np.zeros((1, 4), np.float32),
        pairs=np.zeros((pairs, 2), np.int32),
        weights=np.ones(pairs, np.float32),
    )
    return Job(request=request, arrived_s=0.0, peer=b"")


def test_what_was_never_computed_may_take_for_ever():
    pace = Pace()
    assert pace.expected_s([job(1)]) == math.inf
    pace.learn([job(1)], 0.5)
    assert pace.expected_s([job(1)]) == 0.5
    assert pace.expected_s([job(2)]) == math.inf


def test_sizes_are_alike_within_a_factor_of_two():
    pace = Pace()
    pace.learn([job(5), job(3)], 0.1)
    assert pace.expected_s([job(15)]) == 0.1
    assert pace.expected_s([job(16)]) == math.inf
    assert pace.expected_s([job(7)]) == math.inf


def test_it_follows_a_change():
    pace = Pace()
    for seconds in [1.0] + [3.0] * 40:
        pace.learn([job(1)], seconds)
    assert pace.expected_s([job(1)]) == pytest.approx(3.0, rel=1e-3)
