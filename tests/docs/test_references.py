"""The site's generated references are complete, and the drawings are those of the code."""

from __future__ import annotations

import xml.etree.ElementTree as ET

import command_line
import draw
import ledger_tables
import public_api
import pytest
import rooms
import rooms_page
import testbed_file
from docstrings import to_markdown
from mathml import formulas_to_mathml

import siftmoe
from siftmoe.coordinator.config.testbed import Testbed
from siftmoe.coordinator.ledger.schema import TABLES
from siftmoe.tools import cli


@pytest.mark.parametrize("name", draw.DRAWINGS)
def test_a_drawing_is_that_of_the_code(name):
    drawn = str(draw.DRAWINGS[name]())
    ET.fromstring(drawn)
    current = (draw.FIGURES / name).read_text(encoding="utf-8")
    assert current == drawn, "run: python docs/scripts/draw.py"


def test_a_token_goes_through_rooms_that_exist():
    known = rooms.all_rooms()
    ways = {"coordinator": (*draw.WAY, *draw.ASKED, ("ledger", "")), "agent": draw.BOARD_WAY}
    for package, way in ways.items():
        assert {f"{package}.{room}" for room, _ in way} <= set(known)


def test_rooms_use_only_lower_floors():
    uses = rooms.uses()
    for package in rooms.PACKAGES:
        above: set[str] = set()
        for floor in rooms.floors(package):
            names = {room.name for room in floor}
            for name in names:
                assert not (set(uses[name]) & (above | names)), name
            above |= names


def test_the_reference_of_rooms_has_every_room():
    page = rooms_page.page()
    for room in rooms.all_rooms().values():
        assert room.subject, room.name
        assert f"### {room.name.replace('__', '&#95;&#95;')}\n" in page


def test_the_command_line_reference_has_every_option():
    page = command_line.page()
    for name, parser in command_line.parsers().items():
        assert f"## siftmoe {name}\n" in page
        for action in parser._actions:
            assert all(
                f"`{option}" in page
                for option in action.option_strings
                if option not in ("-h", "--help")
            )
    assert all(summary in page for _, summary in cli.COMMANDS.values())


def test_the_testbed_reference_has_every_key_and_its_meaning():
    page = testbed_file.page()
    for table, kind in testbed_file.tables().items():
        for key in kind.__struct_fields__:
            (row,) = {
                line
                for section in page.split("\n## ")
                if section.startswith((f"[{table}]", f"[[{table}]]"))
                for line in section.splitlines()
                if line.startswith(f"| `{key}` |")
            }
            assert all(cell.strip() for cell in row.strip("|").split(" | ")), row
    assert set(testbed_file.tables()) == set(Testbed.__struct_fields__)


def test_the_ledger_reference_has_every_table():
    page = ledger_tables.page()
    assert all(f"## {table}\n" in page for table in [*TABLES.values(), "run"])


def test_the_public_reference_has_every_public_name():
    page = public_api.page()
    for name in set(siftmoe.__all__) - {"__version__"}:
        assert page.count(f"::: siftmoe.{name}\n") == 1
    assert "Other names" not in page, "put the new name under its subject"


def test_a_reader_without_the_site_finds_where_a_generated_page_comes_from():
    folder = rooms.ROOT / "docs" / "reference"
    for name in ("command-line", "testbed", "ledger", "rooms", "api/index"):
        assert "make docs" in (folder / f"{name}.md").read_text(encoding="utf-8")


def test_docstrings_become_markdown():
    text = (
        "A sum :math:`a_i`, see :class:`Plan`.\n\n.. math:: S = \\sum_i a_i\n\nAs::\n\n    run it\n"
    )
    assert to_markdown(text) == (
        "A sum $a_i$, see `Plan`.\n\n\n$$S = \\sum_i a_i$$\n\nAs:\n\n```text\nrun it\n```"
    )


def test_parameters_that_share_a_line_are_told_apart():
    text = "Parameters\n----------\na, b : float, s\n    Times.\nc : int\n"
    expected = "Parameters\n----------\na : float, s\n    Times.\nb : float, s\n    Times.\nc : int"
    assert to_markdown(text) == expected


def test_formulas_become_mathml():
    page = '<p>x <span class="arithmatex">\\(a &lt; b\\)</span></p>'
    assert "<mo>&lt;</mo>" in formulas_to_mathml(page)
    with pytest.raises(ValueError, match="formula"):
        formulas_to_mathml('<div class="arithmatex">\\[\\nothing{\\]</div>')
