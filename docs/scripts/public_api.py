"""The reference of the public API: every name in ``siftmoe.__all__``, by subject."""

from __future__ import annotations

import ast

from rooms import ROOT

_HEAD = """# Public API

What a program may import is what stands in `siftmoe.__all__`; this page has all of it. Names are
imported when they are used: `import siftmoe` takes milliseconds and loads neither torch nor numpy.
Everything else in the package may move.

```python
import siftmoe

print(siftmoe.__version__)
print(siftmoe.__all__)
```

Functions and classes at work: [from Python](../../how-to/python.md) and
[extensions](../../how-to/extensions.md).

"""
#: Subject -> names in the order of the page; a name that is missing here comes last.
SUBJECTS = {
    "Run a model": ("local", "connect", "Deployment", "Bundle"),
    "Policies": ("Policy", "PolicyRun", "SelectionProblem", "SelectionPlan", "plan_keeping"),
    "Links and air": (
        "Links",
        "LinkStates",
        "LinkSource",
        "RadioEntry",
        "simulated_links",
        "Air",
    ),
    "Tasks": ("Task", "GenerationTask", "choice_task", "perplexity_task"),
}
#: Their constructors are made by msgspec, which Griffe cannot read.
_STRUCTS = ("RadioEntry",)


def page() -> str:
    """Return the page as Markdown."""
    named = {name for names in SUBJECTS.values() for name in names}
    subjects = {**SUBJECTS, "Other names": tuple(n for n in public_names() if n not in named)}
    return _HEAD + "\n".join(_section(s, names) for s, names in subjects.items() if names)


def public_names() -> list[str]:
    """Return ``siftmoe.__all__`` without the version, read from the file."""
    tree = ast.parse((ROOT / "src" / "siftmoe" / "__init__.py").read_text(encoding="utf-8"))
    for node in tree.body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "__all__":
            return [name for name in ast.literal_eval(node.value) if name != "__version__"]
    raise ValueError("src/siftmoe/__init__.py has no __all__")


def _section(subject: str, names: tuple[str, ...]) -> str:
    return "\n".join([f"## {subject}\n", *map(_entry, names)])


def _entry(name: str) -> str:
    lines = [f"::: siftmoe.{name}", "    options:", "      heading_level: 3"]
    if name in _STRUCTS:
        lines += ["      docstring_options:", "        warn_unknown_params: false"]
    return "\n".join([*lines, ""])
