from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from instances import judge, make_instance, milp_optimum, tighten_power
from scipy.optimize import minimize

from siftmoe.tools.cli import main

if TYPE_CHECKING:
    from pathlib import Path

KEYS = [
    "file",
    "family",
    "status",
    "objective",
    "lower_bound",
    "helpers",
    "bandwidth_hz",
    "solve_s",
]


def write(folder: Path, name: str, raw: dict[str, Any]) -> str:
    path = folder / name
    path.write_text(json.dumps(raw))
    return str(path)


def solved(capsys: pytest.CaptureFixture[str], *arguments: str) -> list[dict[str, Any]]:
    assert main(["solve", *arguments, "--json"]) == 0
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_selection_instances(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(3)
    shapes = [(1, 4), (16, 1), (16, 2), (10, 3)]
    raws = [
        make_instance(rng, tokens=tokens, experts=8, slots=slots, helpers=5)
        for tokens, slots in shapes
    ]
    files = [write(tmp_path, f"{k}.json", raw) for k, raw in enumerate(raws)]
    answers = solved(capsys, *files)
    assert [a["file"] for a in answers] == files
    for raw, answer in zip(raws, answers, strict=True):
        assert list(answer) == KEYS
        assert answer["family"] == raw["family"]
        assert answer["status"] == "optimal"
        assert judge(raw, answer["helpers"]) == pytest.approx(answer["objective"], rel=1e-9)
        assert answer["objective"] == pytest.approx(milp_optimum(raw), rel=1e-7)
        assert answer["lower_bound"] == pytest.approx(answer["objective"], rel=1e-8)
        assert answer["bandwidth_hz"] is None


def test_infeasible_instances(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(4)
    files = []
    for slots in (1, 2):
        raw = make_instance(rng, tokens=12, experts=8, slots=slots, helpers=4, share=0.1, local=0)
        files.append(write(tmp_path, f"{slots}.json", tighten_power(raw, rng, ease=0.3)))
    for answer in solved(capsys, *files):
        assert answer["status"] == "infeasible"
        assert answer["objective"] is None
        assert answer["lower_bound"] is None
        assert len(answer["helpers"]) == 12


def bandwidth_instance() -> dict[str, Any]:
    return {
        "family": "w",
        "B": 2e7,
        "q": [3.0, 5.0, 0.0],
        "c": [1e-4, 2e-4, 1e-4],
        "sd": 65536.0,
        "su": 65536.0,
        "Pb": [1.0, 1.0, 1.0],
        "gd": [1e-9, 3e-9, 1e-9],
        "Pk": [0.2, 0.2, 0.2],
        "gu": [1e-9, 2e-9, 1e-9],
        "n0": 4e-21,
    }


def test_bandwidth_instance(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    raw = bandwidth_instance()
    (answer,) = solved(capsys, write(tmp_path, "w.json", raw))
    assert list(answer) == KEYS
    band = np.array(answer["bandwidth_hz"])
    assert band.sum() == pytest.approx(raw["B"], rel=1e-9)
    assert band[2] == 0.0
    latency = []
    for k in range(2):
        down = band[k] * np.log2(1 + raw["Pb"][k] * raw["gd"][k] / (raw["n0"] * band[k]))
        up = band[k] * np.log2(1 + raw["Pk"][k] * raw["gu"][k] / (raw["n0"] * band[k]))
        latency.append(raw["q"][k] * (raw["c"][k] + raw["sd"] / down + raw["su"] / up))
    assert latency == pytest.approx([answer["objective"]] * 2, rel=1e-9)


def test_other_policies_and_the_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    raw = make_instance(np.random.default_rng(5), tokens=8, experts=8, slots=2, helpers=4)
    file = write(tmp_path, "b.json", raw)
    (best,), (kept,) = solved(capsys, file), solved(capsys, file, "--policy", "topk")
    assert best["objective"] <= kept["objective"]
    (quick,) = solved(capsys, file, "--no-certificate")
    assert quick["lower_bound"] is None
    assert main(["solve", file]) == 0
    shown = capsys.readouterr().out
    assert "b.json" in shown
    assert "optimal" in shown


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"gain": [1e-9]}, "key 'gain' has 1 entries, expected N = 4"),
        ({"host": [[7]] * 8}, r"key 'host\[0\]' holds 7"),
        ({"idx": [[0, 9]] * 8}, r"key 'idx\[0\]' holds 9"),
        ({"F": None}, "key 'F' is missing"),
        ({"T": -1.0}, r"\$.T"),
        ({"B": "wide"}, r"\$.B"),
        ({"eps": None}, r"\$.eps"),
        ({"family": "z"}, "key 'family' is 'z'; known are a, b1, b2, bc, bp, w"),
    ],
)
def test_a_malformed_file_is_named_with_its_key(
    change: dict[str, Any], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    raw = make_instance(np.random.default_rng(6), tokens=8, experts=8, slots=2, helpers=4)
    file = write(tmp_path, "bad.json", {**raw, **change})
    assert main(["solve", file, "--json"]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""

    assert "bad.json" in captured.err
    assert re.search(message, captured.err)


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"family": "a"}', "\x00"])
def test_a_file_that_is_no_instance(
    text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "bad.json"
    path.write_text(text)
    assert main(["solve", str(path)]) == 1
    assert "bad.json" in capsys.readouterr().err


def test_device_lists_of_different_lengths(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write(tmp_path, "w.json", {**bandwidth_instance(), "gu": [1e-9]})
    assert main(["solve", file]) == 1
    assert "key 'gu' has 1 entries" in capsys.readouterr().err


def broadcast_instance(rng: np.random.Generator, *, tokens: int, family: str) -> dict[str, Any]:
    raw = make_instance(rng, tokens=tokens, experts=8, slots=2, helpers=4)
    raw |= {"family": family, "B": 2e6, "pmax": 1e3, "uplink": "broadcast"}
    if family == "bp":
        del raw["eps"]
        raw["lam"] = float(raw["n0"] * 2e6 / np.median(raw["gain"]) * raw["T"] / tokens)
    return raw


def broadcast_value(raw: dict[str, Any], heard: list[list[int]]) -> float:
    """Objective of who hears each token, the airtimes found by a general solver."""
    gain, deviation = np.array(raw["gain"]), np.array(raw["F"])
    worst, total = [], 0.0
    for routed, weights, who in zip(raw["idx"], raw["g"], heard, strict=True):
        if who:
            worst.append(gain[who].min())
            assert set(np.flatnonzero(gain > worst[-1])) <= set(who)
        held = [j for j, where in enumerate(raw["host"]) if {-1, *who} & set(where)]
        here = sum(
            weight * min([raw["Fskip"][i], *deviation[i, held]])
            for i, weight in zip(routed, weights, strict=True)
        )
        assert raw["family"] == "bp" or here <= raw["eps"] * (1 + 1e-9)
        total += here
    noise = raw["n0"] * raw["B"] / np.array(worst)
    hertz = raw["bits"] / raw["B"]

    def energy(share: np.ndarray) -> float:
        airtime = share * raw["T"]
        return float((airtime * noise * np.expm1(np.log(2) * hertz / airtime)).sum()) / scale

    start, scale = np.full(len(worst), 1 / len(worst)), 1.0
    scale = energy(start) if worst else 1.0
    found = minimize(
        energy,
        start,
        bounds=[(0.01, 1.0)] * len(worst),
        constraints=[{"type": "eq", "fun": lambda share: share.sum() - 1.0}],
        method="SLSQP",
        options={"ftol": 1e-15, "maxiter": 400},
    )
    spent = float(found.fun) * scale if worst else 0.0
    return spent + (raw["lam"] * total if raw["family"] == "bp" else 0.0)


@pytest.mark.parametrize("family", ["bc", "bp"])
def test_instances_of_a_broadcast(
    family: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rng = np.random.default_rng(11)
    raws = [broadcast_instance(rng, tokens=tokens, family=family) for tokens in (1, 2, 6)]
    files = [write(tmp_path, f"{k}.json", raw) for k, raw in enumerate(raws)]
    for raw, answer in zip(raws, solved(capsys, *files), strict=True):
        assert list(answer) == KEYS
        assert (answer["family"], answer["status"]) == (family, "optimal")
        value = broadcast_value(raw, answer["helpers"])
        assert answer["objective"] == pytest.approx(value, rel=1e-6)
        assert answer["lower_bound"] == pytest.approx(answer["objective"], rel=1e-9)


def test_a_broadcast_that_does_not_fit_is_infeasible(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    raw = broadcast_instance(np.random.default_rng(11), tokens=6, family="bc")
    raw["pmax"] = 1e-12
    (answer,) = solved(capsys, write(tmp_path, "x.json", raw))
    assert (answer["status"], answer["objective"]) == ("infeasible", None)


@pytest.mark.parametrize(
    ("family", "change", "said"),
    [("bc", {"eps": None}, "eps"), ("bp", {"lam": -1.0}, "lam"), ("bc", {"B": [1e6] * 4}, "B")],
)
def test_what_is_no_broadcast_is_refused_by_its_key(
    family: str, change: dict[str, Any], said: str, tmp_path: Path, capsys: Any
) -> None:
    raw = broadcast_instance(np.random.default_rng(1), tokens=2, family=family) | change
    assert main(["solve", write(tmp_path, "x.json", raw)]) == 1
    assert said in capsys.readouterr().err
