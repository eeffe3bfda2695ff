"""Installs PyTorch's build for this machine: without CUDA where there is no GPU.

    python .ci/torch_build.py .venv/bin/python

PyPI has only the build with CUDA for Linux on x86-64, 6 GB with its libraries. Without a GPU the
CPU's build is taken from where pip looks (an index or a folder that the user has set), or by uv,
which knows PyTorch's own index. TORCH=cpu or TORCH=cuda overrides what is found.
"""

from __future__ import annotations

import os
import platform
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
CONSTRAINTS = ROOT / "constraints.txt"
#: What there is where a driver of NVIDIA runs; the last one under WSL.
GPU_SIGNS = ("proc/driver/nvidia/version", "dev/nvidiactl", "dev/nvidia0", "dev/dxg")
#: Whole setup, measured: torch 0.19 GB and onnxruntime-gpu 0.26 GB are most of the first.
CPU_SIZE = "about 0.7 GB to download, 2 minutes at 50 Mbit/s, and 2 GB on disk"
CUDA_SIZE = "about 6 GB with CUDA's libraries, 13 minutes where it was tried"


def pinned(name: str) -> str:
    """Version of a package in constraints.txt."""
    found = re.search(rf"^{name}==([^\s;]+)", CONSTRAINTS.read_text("utf-8"), flags=re.MULTILINE)
    if found is None:
        raise SystemExit(f"{CONSTRAINTS} has no version of {name}; add it")
    return found[1]


def has_gpu(root: Path = Path("/")) -> bool:
    """Whether a driver of NVIDIA runs on this machine."""
    return any((root / sign).exists() for sign in GPU_SIGNS)


def installed(python: str) -> bool:
    """Whether the pinned version is there, of whatever build."""
    code = "import importlib.metadata as m; print(m.version('torch'))"
    done = subprocess.run([python, "-c", code], capture_output=True, text=True, check=False)
    return done.stdout.strip().partition("+")[0] == pinned("torch")


def install_cpu(python: str) -> bool:
    """Install the CPU's build; says whether it was to be had."""
    version = pinned("torch")
    limits = ["-c", str(CONSTRAINTS)]
    pip = [python, "-m", "pip", "--disable-pip-version-check", "install", *limits]
    if _succeeds([*pip, f"torch=={version}+cpu"]):
        return True
    uv = [python, "-m", "uv", "pip", "install", "--python", python, "--torch-backend=cpu", *limits]
    return _succeeds([*pip, "-q", "uv"]) and _succeeds([*uv, f"torch=={version}"])


def main() -> None:
    """Install it, and say beforehand what is downloaded."""
    python = sys.argv[1]
    wanted = os.environ.get("TORCH", "auto")
    if wanted not in ("auto", "cpu", "cuda"):
        raise SystemExit(f"TORCH={wanted}: it is auto, cpu or cuda")
    if installed(python):
        return
    linux_x86 = (platform.system(), platform.machine()) == ("Linux", "x86_64")
    if not linux_x86:
        _say(f"setting up .venv: {CPU_SIZE}")
    elif wanted == "cuda" or (wanted == "auto" and has_gpu()):
        _say(f"setting up .venv with PyTorch for the GPU: {CUDA_SIZE} (TORCH=cpu: 0.7 GB)")
    else:
        _say(f"setting up .venv with PyTorch for the CPU: {CPU_SIZE}")
        if not install_cpu(python):
            _say(
                f"no CPU build of PyTorch {pinned('torch')} could be fetched, so PyPI's is taken: "
                f"{CUDA_SIZE}. To avoid that press Ctrl-C, set PIP_EXTRA_INDEX_URL to the CPU "
                f"index that PyTorch's installation page names, or PIP_FIND_LINKS to a folder with "
                f"the wheel, and run make again"
            )


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")


def _succeeds(command: list[str]) -> bool:
    """Run a command; its progress is shown, its errors are not: there is another way."""
    return subprocess.run(command, stderr=subprocess.DEVNULL, check=False).returncode == 0


if __name__ == "__main__":
    main()
