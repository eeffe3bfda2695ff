"""Findings of the doctor on a complete machine and on one with missing packages."""

from __future__ import annotations

import importlib.metadata
import json

import pytest

from siftmoe.tools.cli import main
from siftmoe.tools.installation import checks


def without(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    real = importlib.metadata.version

    def version(name: str) -> str:
        if name in names:
            raise importlib.metadata.PackageNotFoundError(name)
        return real(name)

    monkeypatch.setattr(importlib.metadata, "version", version)


def test_here_the_main_job_can_run(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor"]) == 0
    said = capsys.readouterr().out
    assert "MISSING" not in said
    assert f"numpy                   {importlib.metadata.version('numpy')}" in said


def test_findings_for_machines(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--json"]) == 0
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [one["name"] for one in found] == [check.name for check in checks.checks()]
    assert all(one["ok"] for one in found if one["needed"])


def test_what_is_missing_is_told_with_the_way_out(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    without(monkeypatch, "torch", "onnxruntime", "onnxruntime-gpu")
    assert main(["doctor"]) == 1
    said = capsys.readouterr().out
    assert said.count("MISSING") == 2
    assert "-> pip install 'siftmoe[coordinator]'" in said
    assert "-> pip install 'siftmoe[cpu]', or 'siftmoe[gpu]' where there is CUDA" in said


def test_what_only_a_radio_needs_is_no_failure(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    without(monkeypatch, "pyadi-iio")
    assert main(["doctor"]) == 0
    assert "-> pip install 'siftmoe[pluto]'" in capsys.readouterr().out
