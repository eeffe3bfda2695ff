"""Policies by name, imported when one is asked for.

A policy is a function ``select(problem) -> plan``. What the registry names is either such a
function, whose further keyword arguments are its options, or a frozen dataclass whose fields are
the options and whose method ``select`` is the policy.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from siftmoe.coordinator.selection.policy import Policy

_PACKAGE = "siftmoe.coordinator.policies"

#: Name on the command line -> "module:attribute".
POLICIES: dict[str, str] = {
    "topk": f"{_PACKAGE}.topk:TopK",
    "topk-1": f"{_PACKAGE}.topk:TopOne",
    "siftmoe": f"{_PACKAGE}.siftmoe:SiftMoE",
    "skip-only": f"{_PACKAGE}.baselines.skipping:SkipOnly",
    "channel-width": f"{_PACKAGE}.baselines.channel_width:ChannelWidth",
    "gate-price": f"{_PACKAGE}.baselines.skipping:GatePrice",
    "des": f"{_PACKAGE}.baselines.des:Des",
    "wdmoe": f"{_PACKAGE}.wdmoe.policy:Wdmoe",
}


def make_policy(name: str, **options: Any) -> Policy:
    """Import a policy and fix its options.

    Parameters
    ----------
    name : str
        A key of ``POLICIES``.
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
    if name not in POLICIES:
        raise ValueError(f"no policy is named {name!r}; known are {', '.join(sorted(POLICIES))}")
    module, _, attribute = POLICIES[name].partition(":")
    target: Any = getattr(import_module(module), attribute)
    _check_options(name, target, options)
    if inspect.isclass(target):
        return cast("Policy", cast("Any", target(**options)).select)
    return partial(target, **options)


def _check_options(name: str, target: Callable[..., Any], options: dict[str, Any]) -> None:
    known = dict(inspect.signature(target).parameters)
    known.pop("problem", None)
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
