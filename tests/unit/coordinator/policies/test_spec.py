"""Policies as users write them, and what policies say of themselves."""

from __future__ import annotations

import numpy as np
import pytest

from siftmoe.coordinator.policies.registry import make_policy
from siftmoe.coordinator.policies.spec import PolicySpec
from siftmoe.coordinator.policies.topk import TopK
from siftmoe.coordinator.selection.policy import BUDGETS, PolicyRun, Traits


class Mine:
    budgets = ("price",)

    def __init__(self, *, share: float = 0.5) -> None:
        self.share = share
        self.run: PolicyRun | None = None

    def for_run(self, run: PolicyRun) -> Mine:
        self.run = run
        return self

    def select(self, problem):
        return TopK().select(problem)


def function(problem, *, share: float = 0.5):
    return (problem, share)


def test_text_objects_and_specifications_are_taken() -> None:
    assert PolicySpec.of("siftmoe:price=1") == PolicySpec("siftmoe", {"price": 1.0})
    assert PolicySpec.of(PolicySpec("topk"), bits=4.0).options == {"bits": 4.0}
    assert str(PolicySpec.of(Mine, share=0.25)) == "Mine:share=0.25"
    assert PolicySpec.of(Mine()).name == "Mine"
    assert PolicySpec.of(function).name == "function"
    assert str(PolicySpec.of(function).having(share=1.0)) == "function:share=1"


def test_what_is_no_policy_is_refused() -> None:
    with pytest.raises(ValueError, match="'int': 3 is neither a function"):
        PolicySpec.of(3)
    with pytest.raises(ValueError, match="neither a function"):
        PolicySpec.of(dict)


def test_options_go_to_functions_and_classes_and_not_to_objects() -> None:
    assert make_policy("f", target=function, share=0.1)("problem") == ("problem", 0.1)
    assert make_policy("f", target=function)("problem") == ("problem", 0.5)
    assert make_policy("m", target=Mine, share=0.1).__self__.share == 0.1
    with pytest.raises(ValueError, match="'m' is an object; it has no option share"):
        make_policy("m", target=Mine(), share=0.1)
    with pytest.raises(ValueError, match="'f' has no option shar; it has share"):
        make_policy("f", target=function, shar=0.1)


def test_traits_are_asked_of_the_policy() -> None:
    assert PolicySpec("siftmoe").traits == Traits(BUDGETS, chooses_widths=True)
    assert PolicySpec("gate-price").traits == Traits(("price",))
    assert PolicySpec("channel-width").traits == Traits(("price",), chooses_widths=True)
    assert PolicySpec("topk").traits == PolicySpec("wdmoe").traits == Traits()
    assert PolicySpec.of(Mine).traits == Traits(("price",))


@pytest.mark.parametrize("wrong", ["price", ("cost",), ["price"]])
def test_nonsense_about_budgets_is_named(wrong) -> None:
    odd = type("Odd", (Mine,), {"budgets": wrong})
    with pytest.raises(ValueError, match="'Odd': budgets must be a tuple of tolerance"):
        _ = PolicySpec.of(odd).traits


def test_nonsense_about_widths_is_named() -> None:
    odd = type("Odd", (Mine,), {"chooses_widths": np.array([1, 2]).tolist()})
    with pytest.raises(ValueError, match="chooses_widths must be a bool"):
        _ = PolicySpec.of(odd).traits
