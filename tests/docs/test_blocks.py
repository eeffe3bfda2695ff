"""Every block of the documentation is run, or says why not; what it names exists."""

from __future__ import annotations

import argparse
import importlib
import json
import re
from typing import Any

import msgspec
import pytest
from blocks import ROOT, blocks_of, pages, siftmoe_arguments

from siftmoe.coordinator.config.testbed import Testbed
from siftmoe.coordinator.policies.spec import PolicySpec
from siftmoe.tools import cli

BLOCKS = [block for page in pages() for block in blocks_of(page)]
COMMANDS = [
    pytest.param(arguments, id=f"{block}-{number}")
    for block in BLOCKS
    for number, command in enumerate(block.commands())
    for arguments in siftmoe_arguments(command)
]


def test_there_are_blocks_of_every_kind():
    assert {block.language for block in BLOCKS if block.is_run} == {"sh", "python"}
    assert len(COMMANDS) > 60


@pytest.mark.parametrize("block", BLOCKS, ids=str)
def test_a_block_names_its_language_and_its_mark_has_a_reason(block):
    assert block.language, f"{block}: a fence without a language; text is one"
    if block.mark == "not run":
        assert len(block.value.split()) > 1, f"{block}: why is it not run?"


@pytest.mark.parametrize("page", pages(), ids=lambda page: page.name)
def test_no_command_hides_in_an_indented_block(page):
    hidden = re.findall(r"^ {4}(?:\$ )?(?:siftmoe|python|pip|make|sudo) .*$", _prose(page), re.M)
    assert not hidden


def _prose(page):
    return re.sub(r"^( *)```.*?^\1```$", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)


@pytest.mark.parametrize("arguments", COMMANDS)
def test_a_command_of_siftmoe_is_one_that_its_parser_takes(arguments):
    name, *rest = arguments
    if name.startswith("-"):
        assert arguments in (["--help"], ["--version"])
        return
    module = importlib.import_module(f"siftmoe.tools.{cli.COMMANDS[name][0]}")
    if rest == ["--help"]:
        return
    given = ["1" if word.startswith("$") else word for word in rest]  # of a shell's loop
    args = cli._command_parser(name, module).parse_args(given)
    _check_policies(args)


def _check_policies(args: argparse.Namespace) -> None:
    for text in (getattr(args, "policy", None) or "").split(","):
        if text and "package.module" not in text and not text.startswith("confident"):
            PolicySpec.parse(text.removeprefix("+"))


@pytest.mark.parametrize(
    "block", [b for b in BLOCKS if b.language == "toml" and b.mark != "not run"], ids=str
)
def test_toml_is_a_part_of_a_file_that_siftmoe_reads(block):
    found = msgspec.toml.decode(block.body)
    if block.value == "air.toml":
        return  # read by the test of the page
    known: dict[str, Any] = {
        "model": {"bundle": "b"},
        "agent": [{"name": "a", "address": "ipc:///a"}],
    }
    assert set(found) <= set(Testbed.__struct_fields__)
    msgspec.convert({**known, **found}, Testbed)


@pytest.mark.parametrize("block", [b for b in BLOCKS if b.language == "json"], ids=str)
def test_json_is_json(block):
    json.loads(block.body)


@pytest.mark.parametrize("block", [b for b in BLOCKS if b.mark == "from"], ids=str)
def test_what_is_quoted_from_a_file_stands_in_it(block):
    assert block.body in (ROOT / block.value).read_text(encoding="utf-8")
