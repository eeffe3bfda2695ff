"""Makes the training text: docstrings of the standard library and of permissive packages.

The packages are pinned in ``corpus-requirements.txt`` and unpacked, without their dependencies,
into a separate folder, so that the text does not depend on other installed packages::

    pip install --no-deps --only-binary :all: --target build/tiny/site \
        -r models/tiny/corpus-requirements.txt
    python -m siftmoe.models.training.corpus --site build/tiny/site --out build/tiny/corpus

Docstrings are read from the syntax tree; the packages are not imported. A whole file is assigned to
train, val or test by the hash of its path, and repeated paragraphs are dropped, so no paragraph of
a held-out file occurs in the training text.
"""

from __future__ import annotations

import argparse
import ast
import hashlib
import inspect
import json
import os
import platform
import re
import sysconfig
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

SPLITS = ("train", "val", "test")
VAL_PERCENT = 4
TEST_PERCENT = 8
MIN_DOCUMENT_CHARS = 120

# Import name -> (pinned distribution, licence); all licences are permissive.
PACKAGES = {
    "torch": ("torch", "BSD-3-Clause"),
    "numpy": ("numpy", "BSD-3-Clause"),
    "scipy": ("scipy", "BSD-3-Clause"),
    "pandas": ("pandas", "BSD-3-Clause"),
    "sympy": ("sympy", "BSD-3-Clause"),
    "networkx": ("networkx", "BSD-3-Clause"),
    "transformers": ("transformers", "Apache-2.0"),
    "sklearn": ("scikit-learn", "BSD-3-Clause"),
    "statsmodels": ("statsmodels", "BSD-3-Clause"),
    "skimage": ("scikit-image", "BSD-3-Clause"),
    "sqlalchemy": ("sqlalchemy", "MIT"),
    "django": ("django", "BSD-3-Clause"),
    "jax": ("jax", "Apache-2.0"),
    "keras": ("keras", "Apache-2.0"),
    "xarray": ("xarray", "Apache-2.0"),
    "dask": ("dask", "BSD-3-Clause"),
    "sphinx": ("sphinx", "BSD-2-Clause"),
    "tornado": ("tornado", "Apache-2.0"),
    "aiohttp": ("aiohttp", "Apache-2.0"),
    "flask": ("flask", "BSD-3-Clause"),
    "werkzeug": ("werkzeug", "BSD-3-Clause"),
    "requests": ("requests", "Apache-2.0"),
    "attr": ("attrs", "MIT"),
    "accelerate": ("accelerate", "Apache-2.0"),
    "numba": ("numba", "BSD-2-Clause"),
    "llvmlite": ("llvmlite", "BSD-2-Clause"),
    "onnx": ("onnx", "Apache-2.0"),
    "onnxscript": ("onnxscript", "MIT"),
    "huggingface_hub": ("huggingface_hub", "Apache-2.0"),
    "setuptools": ("setuptools", "MIT"),
    "pygments": ("pygments", "BSD-2-Clause"),
    "jinja2": ("jinja2", "BSD-3-Clause"),
    "rich": ("rich", "MIT"),
    "click": ("click", "BSD-3-Clause"),
    "pydantic": ("pydantic", "MIT"),
    "_pytest": ("pytest", "MIT"),
    "mpmath": ("mpmath", "BSD-3-Clause"),
    "fsspec": ("fsspec", "BSD-3-Clause"),
    "yaml": ("pyyaml", "MIT"),
    "absl": ("absl-py", "Apache-2.0"),
    "packaging": ("packaging", "Apache-2.0 OR BSD-2-Clause"),
    "anyio": ("anyio", "MIT"),
    "markdown_it": ("markdown-it-py", "MIT"),
    "filelock": ("filelock", "MIT"),
    "safetensors": ("safetensors", "Apache-2.0"),
    "typer": ("typer", "MIT"),
    "dateutil": ("python-dateutil", "Apache-2.0 OR BSD-3-Clause"),
}
STDLIB_LICENSE = "PSF-2.0"

_SKIPPED_FOLDERS = {
    "site-packages",
    "__pycache__",
    "test",
    "tests",
    "testing",
    "idlelib",
    "_vendor",
    "_vendored",
    "externals",
    "locale",
}
_DOC_CALLS = frozenset({"add_docstr", "add_newdoc", "_add_docstr", "ufunc"})


@dataclass(frozen=True, slots=True)
class Document:
    """One cleaned docstring."""

    package: str
    path: str
    text: str


def split_of(path: str) -> str:
    """Return train, val or test for a source file, by the hash of its path."""
    bucket = int(hashlib.md5(path.encode(), usedforsecurity=False).hexdigest(), 16) % 100
    if bucket < VAL_PERCENT:
        return "val"
    return "test" if bucket < VAL_PERCENT + TEST_PERCENT else "train"


def clean_paragraphs(docstring: str) -> list[str]:
    """Keep the prose of a docstring: no doctests, code, tables, rulers or role markup.

    Parameters
    ----------
    docstring : str
        As it stands in the source, indented.

    Returns
    -------
    list of str
        Paragraphs of ASCII text of which three quarters are letters and spaces.
    """
    kept = []
    for paragraph in re.split(r"\n\s*\n", inspect.cleandoc(docstring)):
        text = _clean(paragraph)
        if not text or not text.isascii():
            continue
        letters = sum(c.isalpha() or c == " " for c in text)
        if letters >= 0.75 * len(text):
            kept.append(text)
    return kept


def _clean(paragraph: str) -> str:
    if ">>>" in paragraph or "```" in paragraph:
        return ""
    if re.search(r"^\s*\.\.\s+(math|code|plot|versionadded|note::\s*$)", paragraph, re.M):
        lines = paragraph.split("\n")
        paragraph = "\n".join(x for x in lines if not re.match(r"\s*(\.\.\.|\.\. )", x))
    text = re.sub(r"^\s*[-=~^*_#+|]{3,}\s*$", "", paragraph, flags=re.M)
    text = re.sub(r":\w+:`~?\.?([^`<]*?)(\s*<[^`]*>)?`", r"\1", text)  # Sphinx roles
    text = text.replace("`", "")
    text = re.sub(r"[ \t]+", " ", text)
    text = re.sub(r"\s*\n\s*", "\n", text).strip()
    return re.sub(r"(?<=[a-z,;\)])\n(?=[a-z\(])", " ", text)  # unwrap lines


def docstrings(source: str) -> Iterator[str]:
    """Yield every docstring of a Python source text, and the ones given to ``add_docstr`` calls."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            docstring = ast.get_docstring(node, clean=False)
            if docstring:
                yield docstring
        elif isinstance(node, ast.Call):
            yield from _docstring_arguments(node)


def _docstring_arguments(call: ast.Call) -> Iterator[str]:
    name = getattr(call.func, "id", getattr(call.func, "attr", ""))
    if name not in _DOC_CALLS:
        return
    for argument in call.args[1:]:
        for part in argument.elts if isinstance(argument, ast.Tuple) else [argument]:
            if isinstance(part, ast.Call) and isinstance(part.func, ast.Attribute):
                part = part.func.value  # r"""...""".format(...)
            text = getattr(part, "value", None)
            if isinstance(text, str) and len(text) > 200:
                yield text


def _help_topics(source: str) -> Iterator[str]:
    """Yield the language reference that ``help()`` shows, ``pydoc_data/topics.py``."""
    for node in ast.parse(source).body:
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Dict):
            yield from ast.literal_eval(node.value).values()


def _source_files(root: Path) -> Iterator[Path]:
    for folder, subfolders, files in os.walk(root):
        subfolders[:] = sorted(set(subfolders) - _SKIPPED_FOLDERS)
        yield from (Path(folder, f) for f in sorted(files) if f.endswith(".py"))


class DocumentReader:
    """Reads packages in order and drops paragraphs that have occurred before."""

    def __init__(self) -> None:
        self._seen: set[bytes] = set()

    def read(self, package: str, root: Path) -> Iterator[Document]:
        """Yield the documents of one package in the order of its sorted paths."""
        for file in _source_files(root):
            path = f"{package}/{file.relative_to(root).as_posix()}"
            source = file.read_text(encoding="utf-8", errors="ignore")
            reader = _help_topics if path.endswith("pydoc_data/topics.py") else docstrings
            try:
                found = list(reader(source))
            except SyntaxError:  # templates and files for other Python versions
                continue
            for number, docstring in enumerate(found):
                text = "\n".join(self._new_paragraphs(docstring))
                if len(text) >= MIN_DOCUMENT_CHARS:
                    # A topic is a separate document; elsewhere the file decides the split.
                    topic = f"#{number}" if reader is _help_topics else ""
                    yield Document(package=package, path=path + topic, text=text)

    def _new_paragraphs(self, docstring: str) -> Iterator[str]:
        for paragraph in clean_paragraphs(docstring):
            words = re.sub(r"\W+", " ", paragraph.lower()).strip()
            key = hashlib.md5(words[:200].encode(), usedforsecurity=False).digest()
            if len(paragraph) > 60 and key in self._seen:
                continue
            self._seen.add(key)
            yield paragraph


def package_roots(site: Path) -> list[tuple[str, str, Path]]:
    """Return (package, licence, folder) of every source, the standard library first.

    Raises
    ------
    ValueError
        If a package is missing in ``site``; the message names it.
    """
    roots = [("stdlib", STDLIB_LICENSE, Path(sysconfig.get_paths()["stdlib"]))]
    for package, (distribution, licence) in PACKAGES.items():
        root = site / package
        if not root.is_dir():
            raise ValueError(
                f"package {package!r} is not in {site}: install {distribution} there, "
                "as corpus-requirements.txt pins it"
            )
        roots.append((package, licence, root))
    return roots


def build(site: Path, out: Path) -> dict[str, object]:
    """Write train, val and test documents as JSON lines to ``out``; return their statistics."""
    out.mkdir(parents=True, exist_ok=True)
    by_split: dict[str, list[Document]] = {name: [] for name in SPLITS}
    licences: Counter[str] = Counter()
    packages: Counter[str] = Counter()
    reader = DocumentReader()
    for package, licence, root in package_roots(site):
        for document in reader.read(package, root):
            by_split[split_of(document.path)].append(document)
            packages[package] += len(document.text)
            licences[licence] += len(document.text)
    summary: dict[str, object] = {
        "python": platform.python_version(),
        "chars_by_licence": dict(licences.most_common()),
        "chars_by_package": dict(packages.most_common()),
    }
    for name, documents in by_split.items():
        data = "".join(json.dumps(asdict(d)) + "\n" for d in documents).encode()
        (out / f"{name}.jsonl").write_bytes(data)
        summary[name] = {
            "documents": len(documents),
            "chars": sum(len(d.text) for d in documents),
            "sha256": hashlib.sha256(data).hexdigest(),
        }
    (out / "corpus.json").write_text(json.dumps(summary, indent=1) + "\n")
    return summary


def read_documents(path: Path) -> list[Document]:
    """Read the documents of one split."""
    return [Document(**json.loads(line)) for line in path.read_text().splitlines()]


def main() -> None:
    """Build the corpus from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--site", type=Path, required=True, help="folder of the pinned packages")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    print(json.dumps(build(arguments.site, arguments.out), indent=1))


if __name__ == "__main__":
    main()
