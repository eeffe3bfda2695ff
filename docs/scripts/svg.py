"""Boxes, arrows and text as SVG, for the drawings of the architecture."""

from __future__ import annotations

from dataclasses import dataclass, field
from xml.sax.saxutils import escape

INK, SOFT, LINE = "#1f2430", "#5b6472", "#8a93a3"
FONT = "system-ui, 'Segoe UI', Roboto, 'DejaVu Sans', sans-serif"


@dataclass
class Drawing:
    """A drawing of a size in pixels; elements are added from back to front."""

    width: int
    height: int
    title: str
    elements: list[str] = field(default_factory=list)

    def box(self, x: float, y: float, width: float, height: float, *, fill: str) -> None:
        """Add a rounded box."""
        self.elements.append(
            f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="5" '
            f'fill="{fill}" stroke="{LINE}" stroke-width="1"/>'
        )

    def text(
        self,
        x: float,
        y: float,
        text: str,
        *,
        size: float = 13,
        bold: bool = False,
        colour: str = INK,
        anchor: str = "start",
        after: str = "",
    ) -> None:
        """Add one line of text, and softer text after it; y is the baseline."""
        weight = ' font-weight="600"' if bold else ""
        self.elements.append(
            f'<text x="{x:g}" y="{y:g}" font-size="{size:g}" fill="{colour}"{weight} '
            f'text-anchor="{anchor}">{escape(text)}{_soft(after)}</text>'
        )

    def arrow(self, *points: tuple[float, float], colour: str = SOFT, dashed: bool = False) -> None:
        """Add a line through points with a head at its end."""
        path = " ".join(f"{x:g},{y:g}" for x, y in points)
        dash = ' stroke-dasharray="4 3"' if dashed else ""
        self.elements.append(
            f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="1.6"{dash} '
            f'marker-end="url(#head)"/>'
        )

    def __str__(self) -> str:
        """Return the file's text."""
        body = "\n".join(self.elements)
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {self.width} {self.height}" '
            f'width="{self.width}" height="{self.height}" font-family="{FONT}" role="img">\n'
            f"<title>{escape(self.title)}</title>\n"
            '<defs><marker id="head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" '
            f'markerHeight="7" orient="auto"><path d="M0,0 L8,4 L0,8 z" fill="{SOFT}"/></marker>'
            "</defs>\n"
            f'<rect width="{self.width}" height="{self.height}" fill="#ffffff"/>\n{body}\n</svg>\n'
        )


def _soft(text: str) -> str:
    if not text:
        return ""
    return f'<tspan dx="10" font-size="13" font-weight="400" fill="{SOFT}">{escape(text)}</tspan>'
