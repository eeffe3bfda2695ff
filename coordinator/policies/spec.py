"""A policy as users write it: ``NAME`` or ``NAME:KEY=VALUE:KEY=VALUE``, or an object of theirs."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from siftmoe import plugins
from siftmoe.coordinator.policies.registry import POLICIES, check_policy, find_policy
from siftmoe.coordinator.selection.policy import Traits

if TYPE_CHECKING:
    from collections.abc import Mapping

    from siftmoe.plugins import Value


@dataclass(frozen=True, slots=True)
class PolicySpec:
    """A policy's name and its options, not checked against the policy yet.

    Parameters
    ----------
    name : str
        A name of the registry, or ``package.module:Name``; with an object, what it is called.
    options : mapping
    target : function, class, object or None
        The policy itself where it has no name.
    """

    name: str
    options: Mapping[str, Value] = field(default_factory=dict)
    target: Any = None

    @classmethod
    def parse(cls, text: str) -> PolicySpec:
        """Read ``siftmoe:loss=0.025:rescale=false``.

        Raises
        ------
        ValueError
            If there is no policy of that name, or an option is not of the form KEY=VALUE.
        """
        return cls(*plugins.parse(plugins.POLICIES, text, POLICIES))

    @classmethod
    def of(cls, policy: Any, **options: Value) -> PolicySpec:
        """Make a specification of what a user gives: text, a specification, or a policy itself.

        Raises
        ------
        ValueError
            If it is none of these.
        """
        if isinstance(policy, PolicySpec):
            return policy.having(**options)
        if isinstance(policy, str):
            return cls.parse(policy).having(**options)
        name = getattr(policy, "__name__", type(policy).__name__)
        check_policy(policy, name=name)
        return cls(name, options, policy)

    def having(self, **options: Value) -> PolicySpec:
        """Return the same policy with these options set beside the others."""
        return replace(self, options={**self.options, **options})

    @property
    def traits(self) -> Traits:
        """What the policy says of itself; imports it.

        Raises
        ------
        ValueError
            If it cannot be imported, or says nonsense.
        """
        target = find_policy(self.name) if self.target is None else self.target
        return Traits.of(target, name=self.name)

    def __str__(self) -> str:
        return ":".join([self.name, *(f"{key}={_text(v)}" for key, v in self.options.items())])

    def number(self, key: str) -> float | None:
        """Value of a numeric option; None if it is not given.

        Raises
        ------
        ValueError
            If it is not a number, or negative.
        """
        value = self.options.get(key)
        if value is None:
            return None
        if isinstance(value, bool | str) or not value >= 0.0:
            raise ValueError(f"policy {self}: {key} must be a number, not negative; got {value!r}")
        return value


def _text(value: Value) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else value
