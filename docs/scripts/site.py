"""MkDocs hooks: pages generated from code, pages from outside of docs/, formulas as MathML.

MkDocs imports this file by its name in ``mkdocs.yml``, with this folder on the path.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import command_line
import ledger_tables
import public_api
import rooms_page
import testbed_file
from mathml import formulas_to_mathml
from mkdocs.structure.files import File

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files
    from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[2]

#: Pages of the site that are written outside of docs/.
OUTSIDE = ("CONTRIBUTING.md", "CHANGELOG.md", "benchmarks/RESULTS.md")
#: Pages of the site that are generated from code.
GENERATED = {
    "reference/command-line.md": command_line.page,
    "reference/testbed.md": testbed_file.page,
    "reference/ledger.md": ledger_tables.page,
    "reference/rooms.md": rooms_page.page,
    "reference/api/index.md": public_api.page,
}
#: Links from outside into docs/, and from a folder of docs/ to the outside.
_TO_DOCS = re.compile(r"(\]\(|src=\")docs/")
#: What a browser fetches by itself from another host.
_FOREIGN = re.compile(
    r"""<(?:script|img|iframe|link)\b[^>]*\b(?:src|href)=["'](?:https?:)?//[^>]*>"""
)
_OUT_OF_DOCS = re.compile(r"(\]\()\.\./\.\./")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add what does not lie in docs/."""
    files.append(File.generated(config, "index.md", content=_read("README.md")))
    for name in OUTSIDE:
        files.append(File.generated(config, name, content=_read(name)))
    for path in sorted((ROOT / "benchmarks" / "figures").glob("*.png")):
        name = path.relative_to(ROOT).as_posix()
        files.append(File.generated(config, name, abs_src_path=str(path)))
    for name, page in GENERATED.items():
        if (stub := files.get_file_from_path(name)) is not None:  # for readers without the site
            files.remove(stub)
        files.append(File.generated(config, name, content=page()))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Let links that are right in the repository be right on the site."""
    del config, files
    if page.file.src_uri == "index.md" or page.file.src_uri in OUTSIDE:
        up = "../" * page.file.src_uri.count("/")
        return _TO_DOCS.sub(r"\1", markdown).replace(f"]({up}docs/", f"]({up}")
    if page.file.src_uri.count("/") > 1:
        return markdown
    return _OUT_OF_DOCS.sub(r"\1../", markdown)


def on_page_content(html: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Render formulas; no script and no font is needed to read them."""
    del page, config, files
    return formulas_to_mathml(html)


def on_post_page(output: str, page: Page, config: MkDocsConfig) -> str:
    """Refuse a page that would load something from another host.

    Raises
    ------
    ValueError
        With what it would load.
    """
    del config
    if found := _FOREIGN.search(output):
        raise ValueError(f"{page.file.src_uri}: loads {found[0]}; the site must serve it itself")
    return output


def _read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")
