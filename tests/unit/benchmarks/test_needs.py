"""Scripts that need root, an emulator or a mirror: what is missing, and a child's last words."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.flash.needs import call, failure, missing

ROOT = Path(__file__).resolve().parents[3]
HANDLER = "enabled\ninterpreter /usr/bin/qemu-aarch64-static\nflags: {flags}\noffset 0\n"


def test_without_root_it_says_so() -> None:
    assert any("this takes root" in line for line in missing(emulator=None, root=False))
    assert not any("this takes root" in line for line in missing(emulator=None, root=True))


def test_a_missing_program_is_named_with_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda *_, **__: None)
    lines = missing(emulator=None, root=True)
    assert "debootstrap is missing; apt-get install debootstrap" in lines
    assert "systemd-nspawn is missing; apt-get install systemd-container" in lines


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({}, "binfmt_misc is not mounted; mount binfmt_misc"),
        ({"status": "enabled"}, "qemu-aarch64 is not registered with binfmt_misc; apt-get install"),
        ({"status": "enabled", "qemu-aarch64": HANDLER.format(flags="OC")}, "without the flag F"),
        ({"status": "enabled", "qemu-aarch64": "disabled\n"}, "without the flag F or disabled"),
        ({"status": "enabled", "qemu-aarch64": HANDLER.format(flags="OCF")}, None),
    ],
)
def test_an_emulator_that_cannot_be_used_is_told(
    tmp_path: Path, files: dict[str, str], said: str | None
) -> None:
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    lines = missing(emulator="qemu-aarch64", root=True, binfmt=tmp_path)
    about = [line for line in lines if "apt-get install debootstrap" not in line]
    about = [line for line in about if "systemd-container" not in line]
    assert (said in about[0]) if said else about == []


def test_a_childs_last_words_are_kept() -> None:
    with pytest.raises(RuntimeError) as caught:
        call(sys.executable, "-c", "import sys; print('first'); sys.exit('no such mirror')")
    assert "ended with 1:\nfirst\nno such mirror" in str(caught.value)
    assert "Is a Debian mirror reachable?" in failure(["debootstrap"], 1, "E: Failed getting\n")
    assert "it printed nothing" in failure(["sleep"], 2, "")


@pytest.mark.parametrize("name", ["arm64", "faults"])
def test_the_scripts_end_in_lines_and_no_traceback(name: str, tmp_path: Path) -> None:
    """Without the programs on the path nothing is begun."""
    done = subprocess.run(
        [sys.executable, "-m", f"benchmarks.flash.{name}", "--keep", str(tmp_path)],
        cwd=ROOT,
        env={"PATH": str(tmp_path), "PYTHONPATH": str(ROOT / "src"), "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    lines = done.stderr.splitlines()
    assert done.returncode == 1
    assert lines
    assert all(line.startswith("error: ") for line in lines), done.stderr
