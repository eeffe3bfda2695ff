"""Text of tokens as they come: whole characters only, and nothing of a stop text."""

from __future__ import annotations

import pytest

from siftmoe.tools.serving.text import TextAssembler


class Bytes:
    """A tokenizer whose tokens are bytes."""

    def decode(self, ids: list[int], *, skip_special_tokens: bool) -> str:
        del skip_special_tokens
        return bytes(ids).decode(errors="replace")


def pieces(text: str, *stop: str) -> tuple[list[str], str, bool]:
    assembler = TextAssembler(Bytes(), stop)
    told = []
    for token in text.encode():
        told.append(assembler.add(token))
        if assembler.stopped:
            break
    return told, assembler.rest(), assembler.stopped


def test_a_character_is_told_when_it_is_whole() -> None:
    told, rest, _ = pieces("aé€")
    assert told == ["a", "", "é", "", "", "€"]
    assert rest == ""


def test_bytes_that_become_no_character_are_told_at_the_end() -> None:
    assembler = TextAssembler(Bytes(), ())
    assert [assembler.add(ord("a")), assembler.add(0xC3)] == ["a", ""]
    assert assembler.rest() == "\N{REPLACEMENT CHARACTER}"


@pytest.mark.parametrize(
    ("text", "stop", "expected"),
    [
        ("one\n\ntwo", ("\n\n",), "one"),
        ("ababac", ("abac",), "ab"),
        ("xEND", ("END", "D"), "x"),
        ("ends in EN", ("END",), "ends in EN"),
        ("stop", ("stop",), ""),
        ("no stop here", (), "no stop here"),
    ],
)
def test_text_ends_before_the_first_stop(text: str, stop: tuple[str, ...], expected: str) -> None:
    told, rest, stopped = pieces(text, *stop)
    assert "".join(told) + rest == expected
    assert stopped is (expected != text)
