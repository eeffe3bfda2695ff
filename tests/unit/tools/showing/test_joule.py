"""Parts of the joule in the tables, and what a saving is said to be a share of."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import pytest

from siftmoe.tools.results.policies import PolicyResult, load_results
from siftmoe.tools.showing.comparison_table import brief_rows, energy_saved, legend
from siftmoe.tools.showing.joule import counted_in, part_rows

if TYPE_CHECKING:
    from pathlib import Path

UP, ANSWERS = ("hidden states up", "user"), ("answers down", "helpers")
CONTROL, PILOTS = ("control", "user"), ("pilots", "user")
SENDING, RECEIVING = ("circuits sending", "user"), ("circuits receiving", "helpers")


def result_of(run: Path, parts: dict[Any, float], **changes: Any) -> PolicyResult:
    radiated = sum(value for (use, _), value in parts.items() if not use.startswith("circuits"))
    return dataclasses.replace(
        load_results(run)[0],
        parts_j_per_token=parts,
        energy_j_per_token=sum(parts.values()),
        radiated_share=radiated / sum(parts.values()),
        **changes,
    )


def test_a_line_per_part_a_column_per_policy_and_sums(run: Path) -> None:
    parts = {UP: 4e-9, ANSWERS: 3e-9, CONTROL: 1e-9, SENDING: 6e-9, RECEIVING: 2e-9}
    first = result_of(run, parts)
    second = result_of(run, {UP: 2e-9, ANSWERS: 2e-9}, policy="siftmoe")
    header, rows = part_rows([first, second])
    assert header == ["energy per token", "battery", "topk", "siftmoe"]
    assert rows == [
        ["hidden states up", "user", "4 nJ", "2 nJ"],
        ["answers down", "helpers", "3 nJ", "2 nJ"],
        ["control", "user", "1 nJ", "0 J"],
        ["circuits sending", "user", "6 nJ", "0 J"],
        ["circuits receiving", "helpers", "2 nJ", "0 J"],
        ["sum", "both", "16 nJ", "4 nJ"],
        ["of it radiated", "both", "8 nJ", "4 nJ"],
        ["of it given by", "user", "11 nJ", "2 nJ"],
        ["of it given by", "helpers", "5 nJ", "2 nJ"],
    ]


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        ({UP: 1.0, ANSWERS: 1.0}, "both directions; all of it is radiated"),
        ({UP: 1.0, CONTROL: 1.0}, "both directions, control included; all of it is radiated"),
        (
            {UP: 1.0, CONTROL: 1.0, PILOTS: 1.0, SENDING: 1.0},
            "both directions, control, pilots and circuits included; 75 % of it is radiated",
        ),
        (
            {UP: 1e-9, SENDING: 1.0},
            "both directions, circuits included; 1e-07 % of it is radiated",
        ),
    ],
)
def test_what_is_counted_is_said(run: Path, parts: dict[Any, float], said: str) -> None:
    assert counted_in([result_of(run, parts)]) == said


def test_the_saving_is_of_both_directions(run: Path) -> None:
    topk = result_of(run, {UP: 4e-9, ANSWERS: 4e-9})
    other = result_of(run, {UP: 1e-9, ANSWERS: 3e-9}, policy="siftmoe")
    assert energy_saved(other, topk) == pytest.approx(0.5)
    assert "both directions; all of it" in legend([topk, other])
    header, rows, _ = brief_rows([topk, other])
    assert rows[1][header.index("saved")] == "50 %"
    assert rows[1][header.index("energy / token")].startswith("4 nJ")


def test_bits_of_both_ways_are_named_where_they_differ(run: Path) -> None:
    one = result_of(run, {UP: 1.0}, mix=((0.0, {16: 4}),), reply_mix={16: 4})
    two = result_of(run, {UP: 1.0}, mix=((0.0, {3: 2, 4: 2}),), reply_mix={4: 1, 6: 3})
    header, rows, _ = brief_rows([one, two])
    assert [row[header.index("bits")] for row in rows] == ["16", "3.5 / 5.5"]
