"""A package that extends siftmoe, installed as users install one: its policy, links and task."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from siftmoe.agent.config import AgentConfig
from siftmoe.agent.process.launch import spawn, stop_all
from siftmoe.models.bundle.reader import Bundle
from siftmoe.tools.bundles import open_model

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Command = Callable[..., subprocess.CompletedProcess[str]]

pytestmark = pytest.mark.timeout(300)

EXAMPLE = Path(__file__).parents[2] / "examples" / "plugin"
SMALL = ["--items", "2", "--tokens", "3", "--task", "echo:list", "--json"]

TESTBED = """
[model]
bundle = "{bundle}"
[policy]
name = "confident"
options = {{ share = 0.6 }}
[radio]
deadline_s = 0.01
links = "corridor:loss_db=10"
[[agent]]
name = "only"
address = "{address}"
"""


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    return open_model("upcycled")


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Install the example package into a folder of its own."""
    target = tmp_path_factory.mktemp("site")
    source = tmp_path_factory.mktemp("source") / "plugin"
    import shutil

    shutil.copytree(EXAMPLE, source)
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps"]
    command += ["--no-build-isolation", "--disable-pip-version-check", f"--target={target}"]
    subprocess.run([*command, str(source)], check=True)
    return target


@pytest.fixture
def siftmoe(installed: Path, tmp_path: Path) -> Command:
    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        path = os.pathsep.join(filter(None, [str(installed), os.environ.get("PYTHONPATH", "")]))
        return subprocess.run(
            [sys.executable, "-m", "siftmoe.tools.cli", *arguments],
            env={**os.environ, "PYTHONPATH": path},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )

    return run


def results(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.mark.usefixtures("bundle")
def test_loopback_takes_them_and_says_where_links_come_from(siftmoe: Command) -> None:
    done = siftmoe(
        *("loopback", "--agents", "2", *SMALL),
        *("--policy", "topk,confident:share=0.6,siftmoe_example.policies:Confident:share=0.6"),
        *("--links", "corridor:loss_db=10"),
    )
    found = results(done)
    by_policy = {result["policy"]: result for result in found["results"]}
    assert list(by_policy) == [
        "topk",
        "confident:share=0.6",
        "siftmoe_example.policies:Confident:share=0.6",
    ]
    assert by_policy["topk"]["skipped"] == 0.0
    named, located = list(by_policy.values())[1:]
    assert 0.05 < named["skipped"] < 0.5
    assert {**named, "policy": "", "tokens_per_s": 0} == {
        **located,
        "policy": "",
        "tokens_per_s": 0,
    }
    assert found["config"]["note"].startswith("Links from corridor:loss_db=10, no radio was used")


def test_they_are_in_the_help_of_commands(siftmoe: Command) -> None:
    for command in ("loopback", "run", "experiment"):
        text = " ".join(siftmoe(command, "--help").stdout.split())
        assert "confident" in text
        assert "corridor" in text
    assert "echo" in siftmoe("loopback", "--help").stdout


def test_a_study_takes_them(siftmoe: Command, bundle: Bundle) -> None:
    done = siftmoe(
        *("experiment", "latency", "--quick", "--model", str(bundle.root), "--items", "1"),
        *("--seeds", "1", "--jobs", "1", "--task", "echo", "--validation", "echo"),
        *("--policy", "+confident:share=0.6", "--links", "corridor", "--json"),
    )
    found = results(done)
    assert found["config"]["links"] == "corridor"
    curves = {row["curve"] for row in found["rows"]}
    assert "confident:share=0.6" in curves
    assert "topk" in curves


@pytest.fixture
def agent(bundle: Bundle) -> Iterator[str]:
    started = spawn(AgentConfig(bundle=str(bundle.root), name="only", threads=1))
    try:
        yield started.wait().endpoint
    finally:
        stop_all([started.process])


def test_a_testbed_names_them(siftmoe: Command, bundle: Bundle, agent: str, tmp_path: Path) -> None:
    file = tmp_path / "testbed.toml"
    file.write_text(TESTBED.format(bundle=bundle.root, address=agent))
    found = results(siftmoe("run", str(file), *SMALL))
    assert [result["policy"] for result in found["results"]] == ["topk", "confident:share=0.6"]
    assert "Links from corridor:loss_db=10" in found["config"]["note"]


def test_what_a_policy_lacks_is_said_before_anything_starts(siftmoe: Command) -> None:
    for text, message in (
        ("confident:shar=1", "policy 'confident' has no option shar; it has "),
        ("confident:price=1", "confident has no budget, so no price"),
        ("confident:bits=auto", "confident does not choose widths"),
        ("siftmoe_example.policies:Shy", "has no attribute 'Shy'"),
    ):
        done = siftmoe("loopback", "--agents", "2", "--policy", text)
        assert done.returncode == 1
        assert message in done.stderr
        assert "Traceback" not in done.stderr
