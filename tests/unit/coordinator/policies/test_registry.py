from __future__ import annotations

import subprocess
import sys

import pytest

from siftmoe.coordinator.policies.registry import POLICIES, make_policy
from siftmoe.coordinator.policies.topk import TopOne


def test_a_policy_is_made_with_its_options():
    policy = make_policy("topk-1", rescale=True)
    assert policy.__self__ == TopOne(rescale=True)


def test_unknown_policies_and_options_are_named():
    with pytest.raises(ValueError, match=r"'nonsense'; known are .*topk, topk-1"):
        make_policy("nonsense")
    with pytest.raises(ValueError, match=r"'topk' has no option nonsense; it has rescale"):
        make_policy("topk", nonsense=1)


@pytest.mark.parametrize("name", sorted(POLICIES))
def test_every_registered_policy_can_be_imported(name):
    assert callable(make_policy(name))


def test_the_registry_itself_loads_nothing_heavy():
    code = (
        "import sys; from siftmoe.coordinator.policies import registry; "
        "sys.exit(bool({'numpy', 'numba', 'scipy', 'torch'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
