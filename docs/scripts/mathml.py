"""LaTeX formulas of a page as MathML, which browsers lay out themselves."""

from __future__ import annotations

import html
import re

from math_core import LatexError, LatexToMathML

#: What ``pymdownx.arithmatex`` leaves of a formula: a span for ``$..$``, a div for ``$$..$$``.
_FORMULA = re.compile(
    r'<(?P<tag>span|div) class="arithmatex">\\(?:\(|\[)(?P<latex>.*?)\\(?:\)|\])</(?P=tag)>', re.S
)
_CONVERTER = LatexToMathML()


def formulas_to_mathml(page: str) -> str:
    """Replace every formula of a page's HTML.

    Raises
    ------
    ValueError
        If one is not LaTeX, with the formula.
    """
    return _FORMULA.sub(_replacement, page)


def _replacement(found: re.Match[str]) -> str:
    latex = html.unescape(found["latex"]).strip()
    block = found["tag"] == "div"
    try:
        mathml = _CONVERTER.convert_with_local_state(latex, displaystyle=block)
    except LatexError as error:
        raise ValueError(f"formula {latex!r}: {error}") from error
    return f'<div class="formula">{mathml}</div>' if block else mathml
