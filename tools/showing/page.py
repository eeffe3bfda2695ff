"""Writes one self-contained HTML page of a run or a study."""

from __future__ import annotations

import html
import json
from dataclasses import dataclass
from importlib.resources import files
from string import Template
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class Section:
    """A section of a page: heading, and body as HTML."""

    heading: str
    body: str


def write_page(
    path: Path,
    *,
    title: str,
    subtitle: str,
    note: str,
    about: str,
    sections: Sequence[Section],
    config: Mapping[str, Any],
) -> None:
    """Write a page; everything except the sections' bodies is plain text and is escaped here.

    Parameters
    ----------
    path : Path
    title, subtitle : str
    note : str
        Source of the figures; emphasized.
    about : str
        Operating point of the figures.
    sections : sequence of Section
    config : mapping
        Shown at the end.
    """
    template = files("siftmoe.tools").joinpath("templates/report.html").read_text("utf-8")
    page = Template(template).substitute(
        title=html.escape(title),
        subtitle=html.escape(subtitle),
        note=html.escape(note),
        about=html.escape(about),
        sections="\n".join(f"<h2>{html.escape(s.heading)}</h2>\n{s.body}" for s in sections),
        config=html.escape(json.dumps(dict(config), indent=1)),
    )
    path.write_text(page, encoding="utf-8")


def html_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table as HTML; the cells are plain text."""
    head = "".join(f"<th>{html.escape(cell)}</th>" for cell in header)
    body = "".join(
        "<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>" for row in rows
    )
    table = f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
    return f'<div class="scroll">{table}</div>'


def html_figures(drawn: Mapping[str, str], captions: Mapping[str, str]) -> str:
    """Return figures (SVG by name) with their captions below, as HTML."""
    return (
        f'<div class="figures">{"".join(_figure(s, captions[n]) for n, s in drawn.items())}</div>'
    )


def _figure(svg: str, caption: str) -> str:
    body = svg[svg.index("<svg") :]  # an XML declaration is not allowed inside HTML
    return f"<figure>{body}<figcaption>{html.escape(caption)}</figcaption></figure>"
