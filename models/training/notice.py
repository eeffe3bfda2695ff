"""Collects the licences of the training text, which ships with the checkpoints.

::

    python -m siftmoe.models.training.notice --site build/tiny/site --out models/tiny/LICENSES

reads them from the packages that are pinned in ``corpus-requirements.txt``.
"""

from __future__ import annotations

import argparse
import platform
import re
import sysconfig
from pathlib import Path

from siftmoe.models.training.corpus import PACKAGES, STDLIB_LICENSE

_HEAD = """\
The text in data/ consists of docstrings of the Python standard library and of the packages below,
and the checkpoints in upcycled/ and scratch/ and their tokenizer were trained on such text. It is
used under the licences that follow; the text was shortened and its markup removed.

"""
_RULER = "=" * 80
_APACHE = "Apache License\n                           Version 2.0, January 2004"
_NAMES = ("LICENSE", "LICENSE.txt", "LICENSE.rst", "COPYING", "LICENSE.BSD", "NOTICE")


def distribution_folder(site: Path, distribution: str) -> Path:
    """Return the metadata folder of an installed distribution.

    Raises
    ------
    ValueError
        If it is not installed in ``site``.
    """
    wanted = _normal(distribution)
    # The metadata of a package that is linked into the folder lies beside the link's target.
    for folder in (site, *(p.resolve().parent for p in site.iterdir() if p.is_symlink())):
        for path in sorted(folder.glob("*.dist-info")):
            if _normal(path.name.partition("-")[0]) == wanted:
                return path
    raise ValueError(f"{distribution} is not installed in {site}")


def licence_text(folder: Path) -> str:
    """Return the licence and notice of a distribution, without those of libraries in its wheel.

    Raises
    ------
    ValueError
        If the distribution has none.
    """
    places = (folder / "licenses", folder)
    files = [place / name for name in _NAMES for place in places if (place / name).is_file()]
    if not files:
        raise ValueError(f"no licence file in {folder}")
    texts = []
    for file in files:
        text = file.read_text(encoding="utf-8").strip("\n")
        # numpy and scipy append the licences of bundled libraries after a ruler.
        texts.append(re.split(r"\n(?:----+|The NumPy repository and source)", text)[0].rstrip())
    return "\n\n".join(texts)


def collect(site: Path) -> str:
    """Return the text of all licences, with Apache 2.0 once."""
    stdlib = Path(sysconfig.get_paths()["stdlib"]) / "LICENSE.txt"
    version = platform.python_version()
    parts = [_section(f"Python {version}", STDLIB_LICENSE, stdlib.read_text(encoding="utf-8"))]
    apache_at = ""
    for distribution, licence in PACKAGES.values():
        folder = distribution_folder(site, distribution)
        version = folder.name.removesuffix(".dist-info").rpartition("-")[2].partition("+")[0]
        text = licence_text(folder)
        if _APACHE in text and apache_at:
            own = re.findall(r"^ *Copyright (?!\[|notice|owner|license).*$", text, re.M)
            text = "\n".join(
                [*own, f"Apache License, Version 2.0: the text stands under {apache_at}"]
            )
        elif _APACHE in text:
            apache_at = distribution
        parts.append(_section(f"{distribution} {version}", licence, text))
    return _HEAD + "\n".join(parts)


def _section(name: str, licence: str, text: str) -> str:
    lines = "\n".join(line.rstrip() for line in text.strip("\n").split("\n"))
    return f"{_RULER}\n{name} ({licence})\n{_RULER}\n{lines}\n"


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def main() -> None:
    """Collect the licences from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--site", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    arguments.out.write_text(collect(arguments.site), encoding="utf-8")


if __name__ == "__main__":
    main()
