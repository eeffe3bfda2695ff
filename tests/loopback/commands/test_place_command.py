"""``siftmoe place``: chosen, shown, written; and agents that host what it wrote."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from families import build_model

from siftmoe.agent.config import AgentConfig
from siftmoe.agent.process.launch import spawn, stop_all
from siftmoe.coordinator.config.testbed import load_testbed
from siftmoe.coordinator.ledger.store import Ledger, TransmissionRow
from siftmoe.models.bundle.reader import Bundle
from siftmoe.models.tiny.files import checkpoint_dir, data_path
from siftmoe.tools.cli import main
from siftmoe.tools.results.policies import LEDGER_FILE

DISTANCES = (30.0, 5.0, 12.0)
#: Nothing listens there; a placement asks nobody.
UNUSED = [f"tcp://127.0.0.1:{port}" for port in (1, 2, 3)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("placed")
    build_model("mixtral", vocab_size=2048).save_pretrained(folder / "model")
    for path in checkpoint_dir("upcycled").glob("tokenizer*"):
        shutil.copy(path, folder / "model")
    calibration = ["--calibration", str(data_path("calibration")), "--calibration-tokens", "1024"]
    out = str(folder / "bundle")
    assert main(["prepare", str(folder / "model"), "--out", out, *calibration]) == 0
    return folder


def bench_file(
    folder: Path, *, memory: int | None, distances: tuple[float, ...] = DISTANCES
) -> Path:
    path = folder / "testbed.toml"
    text = '[model]\nbundle = "bundle"\n[radio]\ndeadline_s = 1e-3\n'
    for n, (endpoint, distance) in enumerate(zip(UNUSED, distances, strict=True)):
        text += f'[[agent]]\nname = "a{n}"\naddress = "{endpoint}"\ndistance_m = {distance}\n'
        text += f"memory_bytes = {memory}\n" if memory else ""
    path.write_text(text)
    return path


def placed(capsys: pytest.CaptureFixture[str], *arguments: str) -> Any:
    assert main(["place", *arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_agents_host_what_was_placed_and_tokens_go_there(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = Bundle.open(folder / "bundle")
    shape = bundle.shape
    size = bundle.manifest.expert_file(0, 0).num_bytes
    room = (shape.num_layers * shape.num_experts * 2 // 3) * (size + 64)
    path = bench_file(folder, memory=room)
    out = folder / "placed.toml"
    found = placed(capsys, str(path), "--out", str(out))
    by_name = {row["name"]: row for row in found["agents"]}
    assert by_name["a1"]["used_bytes"] > by_name["a0"]["used_bytes"]  # near, and far
    rows = {row["name"]: row for row in found["compared"]}
    assert rows["placed"]["cost_j"] < rows["round robin"]["cost_j"]
    assert rows["placed"]["saved"] > 3 * rows["placed"]["saved_error"] > 0.0
    assert found["bound_j"] <= found["cost_j"]
    testbed = load_testbed(out)
    for agent in testbed.agent:
        assert [list(pair) for pair in agent.experts] == by_name[agent.name]["experts"]
        assert agent.memory_bytes == room
    starting = [
        spawn(
            AgentConfig(
                bundle=str(folder / "bundle"),
                name=agent.name,
                experts=",".join(f"{layer}:{expert}" for layer, expert in agent.experts),
                threads=1,
                packing="numpy",
                idle_s=0.0,
            )
        )
        for agent in testbed.agent
    ]
    try:
        endpoints = [agent.wait().endpoint for agent in starting]
        for before, after in zip(UNUSED, endpoints, strict=True):
            out.write_text(out.read_text().replace(f'"{before}"', f'"{after}"'))
        run = tmp_path / "run"
        options = ["--policy", "topk", "--task", "perplexity", "--items", "1", "--tokens", "2"]
        assert main(["run", str(out), *options, "--out", str(run)]) == 0
    finally:
        stop_all([agent.process for agent in starting])
    with Ledger.open(run / LEDGER_FILE) as ledger:
        sent = {"a0": 0, "a1": 0, "a2": 0}
        for number in ledger.labels().values():
            for row in ledger.rows(TransmissionRow, run=number):
                held = {layer for layer, _ in by_name[row.agent]["experts"]}
                assert row.layer in held
                sent[row.agent] += row.tokens
    assert sent["a1"] > sent["a0"]


def test_the_table_fits_a_terminal_and_nothing_is_overwritten(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    path = bench_file(folder, memory=None)
    before = path.read_text()
    assert main(["place", str(path)]) == 1
    assert "'a0' states no memory_bytes" in capsys.readouterr().err
    options = ["--memory", "1000000", "--price", "1e-6", "--states", "4"]
    assert main(["place", str(path), *options]) == 0
    said = capsys.readouterr().out
    assert "…" not in said
    assert max(map(len, said.splitlines())) <= 80
    for text in ("round robin", "as in the file", "energy and priced loss", "derived:", "proved:"):
        assert text in " ".join(said.split())
    assert "not written; give --out FILE" in said
    assert main(["place", str(path), *options, "--out", str(path)]) == 1
    assert "exists; name another file, or give --force" in capsys.readouterr().err
    elsewhere = str(folder / "model" / "placed.toml")
    assert main(["place", str(path), *options, "--out", elsewhere]) == 1
    assert "relative to it" in capsys.readouterr().err
    assert path.read_text() == before


def test_few_hosts_and_many(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = bench_file(folder, memory=1_000_000, distances=(9.0, 10.0, 11.0))
    one = placed(capsys, str(path), "--most-hosts", "1", "--states", "4")
    many = placed(capsys, str(path), "--states", "4")
    count = [sum(len(a["experts"]) for a in found["agents"]) for found in (one, many)]
    shape = Bundle.open(folder / "bundle").shape
    assert count[0] == shape.num_layers * shape.num_experts < count[1]
    assert many["cost_j"] < one["cost_j"]
