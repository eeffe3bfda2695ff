"""Names of policies, links and tasks that lie outside the package."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from siftmoe import plugins

if TYPE_CHECKING:
    from pathlib import Path

BUILTIN = {"plain": "math:sqrt"}


@pytest.fixture
def outside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A module in the current folder, and a distribution with an entry point on the path."""
    (tmp_path / "outside_module.py").write_text("class Mine:\n    class Inner: ...\n")
    (tmp_path / "outside_broken.py").write_text("import no_such_module_at_all\n")
    info = tmp_path / "site" / "outside-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: outside\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[siftmoe.policies]\nmine = outside_module:Mine\nbroken = outside_broken:Mine\n"
        "plain = outside_module:Mine\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path / "site")
    monkeypatch.setattr("sys.path", [*__import__("sys").path])


@pytest.mark.parametrize(
    ("text", "name", "parts"),
    [
        ("topk", "topk", []),
        ("siftmoe:price=1", "siftmoe", ["price=1"]),
        ("a.b:C", "a.b:C", []),
        ("a:C:x=1:y=z", "a:C", ["x=1", "y=z"]),
        ("a.b:C.D:x=1", "a.b:C.D", ["x=1"]),
        ("topk:2", "topk", ["2"]),
    ],
)
def test_a_name_is_told_from_its_options(text: str, name: str, parts: list[str]) -> None:
    assert plugins.split(text) == (name, parts)


def test_values_of_options_have_types() -> None:
    assert plugins.parse(plugins.POLICIES, "a.b:C:x=1:y=true:z=cosine", BUILTIN) == (
        "a.b:C",
        {"x": 1.0, "y": True, "z": "cosine"},
    )
    for wrong in ("plain:x", "plain:x=", "plain:=1", "plain:x=1:x=2"):
        with pytest.raises(ValueError, match="is not an option; write plain:KEY=VALUE"):
            plugins.parse(plugins.POLICIES, wrong, BUILTIN)


@pytest.mark.usefixtures("outside")
def test_objects_from_outside_are_found() -> None:
    group = plugins.POLICIES
    found = plugins.find(group, "outside_module:Mine", BUILTIN)
    assert found.__name__ == "Mine"
    assert plugins.find(group, "mine", BUILTIN) is found
    assert plugins.find(group, "outside_module:Mine.Inner", BUILTIN) is found.Inner
    assert plugins.names(group, BUILTIN) == ["broken", "mine", "plain"]
    assert plugins.is_there("outside_module:Mine")
    assert not plugins.is_there("no_such_module_at_all:Mine")
    assert not plugins.is_there("choice:file.jsonl")


@pytest.mark.usefixtures("outside")
def test_a_built_in_name_cannot_be_taken() -> None:
    import math

    assert plugins.find(plugins.POLICIES, "plain", BUILTIN) is math.sqrt


@pytest.mark.usefixtures("outside")
@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nonsense", r"no policy is named 'nonsense'; known are broken, mine, plain; one of your"),
        (
            "no_such_module_at_all:Mine",
            r"cannot import .*: No module named 'no_such_module_at_all'",
        ),
        ("outside_module:Other", r"cannot import .* has no attribute 'Other'; install its package"),
        ("broken", r"'broken' of package outside: cannot import outside_broken:Mine"),
    ],
)
def test_what_cannot_be_found_is_named_with_the_way_out(name: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        plugins.find(plugins.POLICIES, name, BUILTIN)


@pytest.mark.usefixtures("outside")
def test_one_name_from_two_packages_is_refused(tmp_path: Path) -> None:
    info = tmp_path / "site" / "other-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: other\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[siftmoe.policies]\nmine = elsewhere:Mine\n")
    with pytest.raises(ValueError, match=r"'mine' is offered by package \w+ and by package \w+"):
        plugins.installed(plugins.POLICIES)
