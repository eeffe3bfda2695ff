"""One self-contained page: a run's or a study's."""

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
    """A heading and what stands under it, as HTML."""

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
    """Write a page; everything but the sections' bodies is text and is escaped here.

    Parameters
    ----------
    path : Path
    title, subtitle : str
    note : str
        Where the figures come from; set off.
    about : str
        What they are of.
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
    """Lay out a table of text."""
    head = "".join(f"<th>{html.escape(cell)}</th>" for cell in header)
    body = "".join(
        "<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>" for row in rows
    )
    table = f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
    return f'<div class="scroll">{table}</div>'


def html_figures(drawn: Mapping[str, str], captions: Mapping[str, str]) -> str:
    """Lay out figures, SVG by name, above their captions."""
    return (
        f'<div class="figures">{"".join(_figure(s, captions[n]) for n, s in drawn.items())}</div>'
    )


def _figure(svg: str, caption: str) -> str:
    body = svg[svg.index("<svg") :]  # an XML declaration has no place inside a page
    return f"<figure>{body}<figcaption>{html.escape(caption)}</figcaption></figure>"
