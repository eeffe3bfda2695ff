"""Runs the benchmarks and writes their results to benchmarks/RESULTS.md.

    python benchmarks/run.py [NAME ...]

With names only these are run; the sections of the others are kept. A benchmark that fails keeps
its old section, and the exit status is 1.
"""

from __future__ import annotations

import argparse
import ast
import datetime
import os
import platform
import re
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "RESULTS.md"

#: Module below `benchmarks` -> its arguments; in the order of the results.
BENCHMARKS: dict[str, list[str]] = {
    "coordinator.throughput": [],
    "agents.roundtrip": [],
    "agents.clients": [],
    "agents.packing": [],
    "models.quantisers": [],
    "models.weights": [],
    "coordinator.cost": [],
    "coordinator.liveness": [],
    "coordinator.serving": [],
    "chaos": [],
    "fuzz.protocol": [],
    "agents.encryption": [],
    "selection.speed": [],
    "selection.bandwidth": [],
    "selection.both_widths": ["--no-up-only", "--documents", "8"],
    "selection.broadcast": [],
    "models.prepare_memory": [],
    "models.prepare_quantised": [],
    "radio.estimation": ["--figures", "benchmarks/figures"],
    "radio.checks": [],
    "radio.emulator": [],
    "radio.pluto": [],
    "radio.rounds": [],
    "radio.modem": [],
}
PACKAGES = ("numpy", "torch", "transformers", "onnxruntime-gpu", "onnxruntime", "pyzmq", "numba")

HEAD = """# Results of the benchmarks

Written by `make bench`; `python benchmarks/run.py NAME` measures one again. Every section says on
which machine and when. Compare ratios within a section: its contenders took turns.
"""


def title(name: str) -> str:
    """Return the first line of a script's docstring."""
    path = ROOT / "benchmarks" / name.replace(".", "/")
    path = path / "__main__.py" if path.is_dir() else path.with_suffix(".py")
    text = path.read_text(encoding="utf-8")
    return (ast.get_docstring(ast.parse(text)) or name).partition("\n")[0].rstrip(".")


def machine() -> str:
    """Describe processor, cores, memory, load, and versions."""
    return (
        f"{_processor()}, {os.cpu_count()} cores, {_memory_gb():.0f} GB, "
        f"load {os.getloadavg()[0]:.1f} before it began; {platform.system()}, "
        f"Python {platform.python_version()}, {', '.join(_versions())}"
    )


def _processor() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return platform.machine()
    found = re.search(r"^(?:model name|Model)\s*:\s*(.+)$", text, re.MULTILINE)
    return found.group(1).strip() if found else platform.machine()


def _memory_gb() -> float:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9


def _versions() -> list[str]:
    found = []
    for name in PACKAGES:
        try:
            found.append(f"{name} {version(name)}")
        except ModuleNotFoundError:  # one of the two ONNX Runtimes
            continue
    return found


def measure(name: str, *, timeout_s: float) -> str:
    """Run one benchmark and return its section.

    Raises
    ------
    RuntimeError
        If it fails, takes too long or prints nothing.
    """
    arguments = ["-m", f"benchmarks.{name}", *BENCHMARKS[name]]
    about = machine()
    try:
        done = subprocess.run(
            [sys.executable, *arguments],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            text=True,
            timeout=timeout_s,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise RuntimeError(f"took longer than {timeout_s:g} s") from error
    output = done.stdout.strip().replace(f"{ROOT}/", "")
    if done.returncode or not output:
        raise RuntimeError(f"ended with {done.returncode}, {len(output)} characters written")
    if not re.search(r"^\|", output, re.MULTILINE):  # plain text: keep its columns
        output = f"```text\n{output}\n```"
    today = datetime.datetime.now(datetime.timezone.utc).date().isoformat()
    return (
        f"## {name}\n\n{title(name)}.\n\n`python {' '.join(arguments)}`, {today}: {about}\n\n"
        f"{output}\n"
    )


def read_sections(text: str) -> dict[str, str]:
    """Sections of a results file by name."""
    parts = re.split(r"^## (?=[\w.]+$)", text, flags=re.MULTILINE)[1:]
    return {part.partition("\n")[0]: f"## {part.strip()}\n" for part in parts}


def write_sections(sections: dict[str, str]) -> None:
    """Write the file in the order of the list; sections of removed benchmarks are dropped."""
    ordered = [sections[name] for name in BENCHMARKS if name in sections]
    partial = RESULTS.with_suffix(".partial")
    partial.write_text("\n".join([HEAD, *ordered]), encoding="utf-8")
    partial.rename(RESULTS)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(BENCHMARKS))
    parser.add_argument("--timeout", type=float, default=1800.0, metavar="S", help="of each (1800)")
    args = parser.parse_args()
    unknown = sorted(set(args.names) - set(BENCHMARKS))
    if unknown:
        parser.error(f"no benchmark {', '.join(unknown)}; there are {', '.join(BENCHMARKS)}")
    failed = False
    for name in args.names or BENCHMARKS:
        print(f"{name} ...", file=sys.stderr, flush=True)
        try:
            section = measure(name, timeout_s=args.timeout)
        except RuntimeError as error:
            print(f"{name} failed: {error}", file=sys.stderr)
            failed = True
            continue
        old = RESULTS.read_text(encoding="utf-8") if RESULTS.exists() else ""
        write_sections({**read_sections(old), name: section})
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
