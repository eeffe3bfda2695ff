"""A policy as a person writes it: ``NAME`` or ``NAME:KEY=VALUE:KEY=VALUE``."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from siftmoe.coordinator.policies.registry import POLICIES

if TYPE_CHECKING:
    from collections.abc import Mapping

    Value = float | bool | str

_WORDS = {"true": True, "false": False}


@dataclass(frozen=True, slots=True)
class PolicySpec:
    """A policy's name and its options, not checked against the policy yet.

    Parameters
    ----------
    name : str
        A key of ``POLICIES``.
    options : mapping
    """

    name: str
    options: Mapping[str, Value] = field(default_factory=dict)

    @classmethod
    def parse(cls, text: str) -> PolicySpec:
        """Read ``siftmoe:loss=0.025:rescale=false``.

        Raises
        ------
        ValueError
            If there is no policy of that name, or an option is not of the form KEY=VALUE.
        """
        name, *parts = text.strip().split(":")
        if name not in POLICIES:
            raise ValueError(
                f"no policy is named {name!r}; known are {', '.join(sorted(POLICIES))}"
            )
        options: dict[str, Value] = {}
        for part in parts:
            key, equals, value = part.partition("=")
            if not (key and equals and value) or key in options:
                raise ValueError(
                    f"policy {text!r}: {part!r} is not an option; write {name}:KEY=VALUE, "
                    f"each key once"
                )
            options[key] = _value(value)
        return cls(name, options)

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


def _value(text: str) -> Value:
    if text in _WORDS:
        return _WORDS[text]
    try:
        return float(text)
    except ValueError:
        return text


def _text(value: Value) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else value
