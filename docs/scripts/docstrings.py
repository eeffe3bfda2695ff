"""Griffe extension: the few reStructuredText forms in our docstrings, as Markdown.

Numpydoc sections are read by Griffe itself; formulas, code blocks and roles inside them are
written as Sphinx reads them and would otherwise be shown as they stand.
"""

from __future__ import annotations

import re
import textwrap
from typing import Any

import griffe

_BLOCK = re.compile(
    r"^(?P<indent> *)\.\. (?P<kind>math|code-block)::[ ]*(?P<first>[^\n]*)\n"
    r"(?P<rest>(?:(?:(?P=indent) +[^\n]*)?\n)*)",
    re.M,
)
_FORMULA = re.compile(r":math:`(?P<latex>[^`]+)`")
_ROLE = re.compile(r":(?:class|func|meth|data|attr|mod|exc):`~?(?P<name>[^`]+)`")
#: Parameters that share a description; Griffe would give all of them the first one's default.
_TOGETHER = re.compile(
    r"^(?P<names>\w+(?:, \w+)+) : (?P<type>[^\n]*)\n(?P<meaning>(?:(?: +[^\n]+)?\n(?! *\n))*)", re.M
)
_LITERAL = re.compile(r"::\n\n(?P<body>(?:(?: +[^\n]*)?\n)+)")


class PlainDocstrings(griffe.Extension):
    """Rewrite every docstring as Griffe loads it."""

    def on_object(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        """Rewrite one."""
        del kwargs
        if obj.docstring is not None:
            obj.docstring.value = to_markdown(obj.docstring.value)


def to_markdown(text: str) -> str:
    """Return a docstring with Markdown in place of reStructuredText."""
    text = _TOGETHER.sub(_apart, text + "\n\n")
    text = _BLOCK.sub(_block, text)
    text = _LITERAL.sub(_literal, text)
    text = _FORMULA.sub(lambda found: f"${' '.join(found['latex'].split())}$", text)
    return _ROLE.sub(r"`\g<name>`", text).rstrip("\n")


def _apart(found: re.Match[str]) -> str:
    entry = f" : {found['type']}\n{found['meaning']}"
    return "".join(name + entry for name in found["names"].split(", "))


def _block(found: re.Match[str]) -> str:
    indent, rest = found["indent"], textwrap.dedent(found["rest"]).strip("\n")
    if found["kind"] == "math":
        latex = " ".join(f"{found['first']} {rest}".split())
        return f"\n{indent}$${latex}$$\n\n"
    body = textwrap.indent(rest, indent)
    return f"\n{indent}```{found['first']}\n{body}\n{indent}```\n\n"


def _literal(found: re.Match[str]) -> str:
    return f":\n\n```text\n{textwrap.dedent(found['body']).strip(chr(10))}\n```\n\n"
