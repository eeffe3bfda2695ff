"""Policies by name: built in, from installed packages, or ``package.module:Name``.

A name stands for a policy as `siftmoe.coordinator.selection.policy` describes it: a function whose
further keyword arguments are its options, or a class whose constructor takes them and whose method
``select`` is the policy. Listing names imports no policy.
"""

from __future__ import annotations

import inspect
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from siftmoe import plugins

if TYPE_CHECKING:
    from collections.abc import Callable

    from siftmoe.coordinator.selection.policy import Policy, PolicyRun

_PACKAGE = "siftmoe.coordinator.policies"

#: Name on the command line -> "module:attribute".
POLICIES: dict[str, str] = {
    "topk": f"{_PACKAGE}.topk:TopK",
    "topk-1": f"{_PACKAGE}.topk:TopOne",
    "siftmoe": f"{_PACKAGE}.siftmoe:SiftMoE",
    "skip-only": f"{_PACKAGE}.baselines.skipping:SkipOnly",
    "channel-width": f"{_PACKAGE}.baselines.channel_width:ChannelWidth",
    "gate-price": f"{_PACKAGE}.baselines.skipping:GatePrice",
    "router-bias": f"{_PACKAGE}.baselines.router_bias:RouterBias",
    "des": f"{_PACKAGE}.baselines.des:Des",
    "wdmoe": f"{_PACKAGE}.wdmoe.policy:Wdmoe",
}


def known_policies() -> list[str]:
    """Names of all policies that are built in or installed."""
    return plugins.names(plugins.POLICIES, POLICIES)


def find_policy(name: str) -> Any:
    """Import what a name stands for.

    Raises
    ------
    ValueError
        If there is no such policy, or it cannot be imported or called.
    """
    target = plugins.find(plugins.POLICIES, name, POLICIES)
    check_policy(target, name=name)
    return target


def check_policy(target: Any, *, name: str) -> None:
    """Raise ValueError if an object is no policy."""
    select = getattr(target, "select", target)
    if not callable(select) or (inspect.isclass(target) and select is target):
        raise ValueError(
            f"policy {name!r}: {target!r} is neither a function select(problem) nor a class or "
            f"object with such a method"
        )


def make_policy(
    name: str, *, target: Any = None, run: PolicyRun | None = None, **options: Any
) -> Policy:
    """Fix a policy's options.

    Parameters
    ----------
    name : str
        See `find_policy`; with a target, what messages call it.
    target : function, class or object, optional
        A policy that has no name.
    run : PolicyRun or None
        What policies are told that ask for it.
    **options
        Options of that policy.

    Returns
    -------
    callable
        ``select(problem) -> plan``.

    Raises
    ------
    ValueError
        If there is no such policy, it does not have one of the options, or it needs another one.
    """
    if target is None:
        target = find_policy(name)
    made = _configured(name, target, options)
    if run is not None and hasattr(made, "for_run"):
        made = made.for_run(run)
    return cast("Policy", getattr(made, "select", made))


def _configured(name: str, target: Any, options: dict[str, Any]) -> Any:
    if inspect.isclass(target):
        _check_options(name, target, options)
        return target(**options)
    if hasattr(target, "select"):  # an object that was configured when it was made
        if options:
            raise ValueError(f"policy {name!r} is an object; it has no option {', '.join(options)}")
        return target
    _check_options(name, target, options, given=1)
    return partial(target, **options) if options else target


def option_names(target: Any) -> list[str] | None:
    """Return the options that a policy's target takes itself; None if it takes any."""
    if not inspect.isclass(target) and hasattr(target, "select"):
        return []
    parameters = list(inspect.signature(target).parameters.values())
    if any(option.kind is inspect.Parameter.VAR_KEYWORD for option in parameters):
        return None
    return sorted(option.name for option in parameters[0 if inspect.isclass(target) else 1 :])


def _check_options(
    name: str, target: Callable[..., Any], options: dict[str, Any], *, given: int = 0
) -> None:
    """Compare options with a target's parameters; the first ``given`` of them are no options."""
    known = dict(list(inspect.signature(target).parameters.items())[given:])
    if any(option.kind is inspect.Parameter.VAR_KEYWORD for option in known.values()):
        return
    unknown = sorted(set(options) - set(known))
    if unknown:
        raise ValueError(
            f"policy {name!r} has no option {', '.join(unknown)}; "
            f"it has {', '.join(sorted(known)) or 'none'}"
        )
    needed = {key for key, option in known.items() if option.default is inspect.Parameter.empty}
    missing = sorted(needed - set(options))
    if missing:
        raise ValueError(f"policy {name!r} needs the option {', '.join(missing)}")
