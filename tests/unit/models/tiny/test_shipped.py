"""The shipped files: complete, unchanged, small, with their licences and documented figures."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from siftmoe.models import tiny
from siftmoe.models.tasks.files import read_choice
from siftmoe.models.tiny.files import CHECKPOINTS, DATA, checkpoint_dir, data_path
from siftmoe.models.tiny.shipped import differences, shipped_files
from siftmoe.models.training.corpus import PACKAGES, SPLITS
from siftmoe.models.training.train import RECIPES

ROOT = Path(tiny.__file__).parent


def test_files_are_what_the_manifest_says():
    assert differences() == []


def test_files_are_small():
    sizes = [file.stat().st_size for file in shipped_files()]
    assert sum(sizes) < 18e6
    data = [data_path(name).stat().st_size for name in DATA]
    assert sum(data) < 3e6


def test_unknown_names_are_told():
    with pytest.raises(ValueError, match="no checkpoint 'big': there are upcycled, scratch"):
        checkpoint_dir("big")
    with pytest.raises(ValueError, match="no data 'x': there are calibration"):
        data_path("x")


def test_naming_the_files_loads_no_torch():
    code = "import sys, siftmoe.models.tiny; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_every_package_is_pinned_and_its_licence_ships():
    pins = dict(
        line.split("==")
        for line in (ROOT / "corpus-requirements.txt").read_text().splitlines()
        if not line.startswith("#")
    )
    pins = {re.sub(r"[-_.]+", "-", name).lower(): version for name, version in pins.items()}
    licences = (ROOT / "LICENSES").read_text(encoding="utf-8")
    assert set(pins) == {
        re.sub(r"[-_.]+", "-", distribution).lower() for distribution, _ in PACKAGES.values()
    }
    for distribution, licence in PACKAGES.values():
        version = pins[re.sub(r"[-_.]+", "-", distribution).lower()]
        assert f"\n{distribution} {version} ({licence})\n" in licences
    assert "\nPython 3.11.7 (PSF-2.0)\n" in licences


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_a_checkpoint_tells_how_it_was_trained(name):
    record = json.loads((checkpoint_dir(name) / "train.json").read_text())
    recipe = RECIPES[name]
    assert record["recipe"]["steps"] == recipe.steps == record["course"][-1]["step"]
    assert record["recipe"]["seed"] == recipe.seed
    assert record["corpus_sha256"].keys() == set(SPLITS)


def test_figures_stand_beside_the_baselines():
    results = json.loads((ROOT / "results.json").read_text())
    baselines = json.loads((ROOT / "baselines.json").read_text())
    chance = max(figure["value"] for figure in baselines["choice"].values())
    bigram = baselines["perplexity"]["bigram"]["perplexity"]["value"]
    for name in CHECKPOINTS:
        choice = results[name]["choice"]
        accuracy = choice["metrics"]["accuracy"]
        assert choice["num_items"] == len(read_choice(data_path("choice-test")))
        assert accuracy["value"] - 5 * accuracy["standard_error"] > chance
        assert results[name]["perplexity"]["metrics"]["perplexity"]["value"] < bigram / 2


def test_the_documented_figures_are_the_measured_ones():
    page = ROOT.resolve().parents[1] / "docs" / "explanation" / "checkpoints.md"
    document = page.read_text(encoding="utf-8")
    results = json.loads((ROOT / "results.json").read_text())
    for name in CHECKPOINTS:
        figures = {**results[name]["perplexity"]["metrics"], **results[name]["choice"]["metrics"]}
        columns = [("perplexity", 1, ""), ("next_token_accuracy", 100, "%"), ("accuracy", 100, "%")]
        cells = []
        for key, scale, unit in columns:
            value, error = (scale * figures[key][part] for part in ("value", "standard_error"))
            cells.append(f"{value:.1f} ± {error:.1f}{unit}")
        row = " | ".join(cells)
        assert f"| **{name}** | {row} |" in document


def test_upcycled_experts_are_the_similar_ones():
    results = json.loads((ROOT / "results.json").read_text())
    similar, apart = (results[n]["expert_cosine_by_layer"] for n in ("upcycled", "scratch"))
    assert len(similar) == len(apart) == 4
    assert np.mean(similar) > 2 * np.mean(apart)
