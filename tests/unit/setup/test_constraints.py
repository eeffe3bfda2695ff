"""Every requirement has a tested version in constraints.txt, and users' extras an upper bound."""

from __future__ import annotations

import configparser
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import siftmoe.models.errors

ROOT = Path(siftmoe.models.errors.__file__).resolve().parents[1]
#: Extras of who works on siftmoe: always installed with constraints.txt, by make.
OURS = {"dev", "docs", "fuzz"}


def lines(text: str) -> list[str]:
    return [line.partition("#")[0].strip() for line in text.splitlines() if line.partition("#")[0]]


def requirements() -> dict[str, list[Requirement]]:
    """Requirements by extra; those of the package itself under an empty name."""
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    parts = {"": config["options"]["install_requires"], **config["options.extras_require"]}
    return {
        name: [Requirement(line) for line in lines(text) if line] for name, text in parts.items()
    }


PINS = [Requirement(line) for line in lines((ROOT / "constraints.txt").read_text()) if line]


@pytest.mark.parametrize("extra", list(requirements()))
def test_each_requirement_has_a_tested_version_in_its_range(extra):
    for requirement in requirements()[extra]:
        name = canonicalize_name(requirement.name)
        pins = [pin for pin in PINS if canonicalize_name(pin.name) == name]
        assert pins, f"{requirement} is not in constraints.txt"
        for pin in pins:
            (version,) = pin.specifier
            assert version.version in requirement.specifier, f"{requirement} and {pin}"


@pytest.mark.parametrize("extra", [name for name in requirements() if name not in OURS])
def test_a_plain_pip_install_ends_before_the_next_major_version(extra):
    for requirement in requirements()[extra]:
        bounds = {specifier.operator for specifier in requirement.specifier}
        assert bounds & {"<", "=="}, f"{requirement} has no upper bound"
