"""The examples run as they stand, in a folder of their own, without a network."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from siftmoe.tools.bundles import open_model

EXAMPLES = Path(__file__).parents[2] / "examples"

#: What each prints among other things.
PRINTED = {
    "first_steps.py": ["torch.Size([1, 3, 2048])", "siftmoe:price=1e-07:bits=auto", "Metric("],
    "own_policy.py": ["topk", "thrifty", "perplexity 19."],
    "own_channel.py": ["siftmoe:price=1e-07", "uplink energy per token"],
    "lm_evaluation.py": ['"sample_len": 10', "energy per question, both directions", "modelled"],
}

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module", autouse=True)
def bundle() -> None:
    """Prepare the shipped model once, so that no example waits for it."""
    open_model("upcycled")


def test_every_example_is_here() -> None:
    assert {path.name for path in EXAMPLES.glob("*.py")} == set(PRINTED)


@pytest.mark.parametrize("name", PRINTED)
def test_an_example_runs(name: str, tmp_path: Path) -> None:
    offline = {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "hf"), "TQDM_DISABLE": "1"}
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / name)],
        env={**os.environ, **offline},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    for text in PRINTED[name]:
        assert text in done.stdout
    assert all(len(line) <= 80 for line in done.stdout.splitlines() if "per token" in line)
