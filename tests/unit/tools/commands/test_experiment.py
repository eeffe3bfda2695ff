"""A study from the command line on a small random model: stored cells, refusals, files."""

from __future__ import annotations

import csv
import json
import shutil

import pytest

from siftmoe.models.tiny.files import checkpoint_dir, data_path
from siftmoe.tools.cli import main
from siftmoe.tools.commands.experiment import NAMES
from siftmoe.tools.experiments.cells.records import Cell
from siftmoe.tools.experiments.cells.store import CELLS_FILE
from siftmoe.tools.experiments.cells.worker import Job, Work, Worker
from siftmoe.tools.experiments.studies.catalogue import STUDIES
from siftmoe.tools.experiments.studies.definition import Ask
from siftmoe.tools.experiments.table import rows_of


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    """A random model's bundle with a profile, and the shipped tokenizer."""
    from families import build_model

    folder = tmp_path_factory.mktemp("study")
    build_model("mixtral", vocab_size=2048).save_pretrained(folder / "model")
    for path in checkpoint_dir("upcycled").glob("tokenizer*"):
        shutil.copy(path, folder / "model")
    calibration = ["--calibration", str(data_path("calibration")), "--calibration-tokens", "1024"]
    command = ["prepare", str(folder / "model"), "--out", str(folder / "b"), *calibration]
    assert main(command) == 0
    return folder / "b"


def study(name, bundle, out, *more):
    options = ["--model", str(bundle), "--quick", "--items", "1", "--jobs", "1", "--out", str(out)]
    return ["experiment", name, *options, *more]


def read(path):
    with path.open(encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


@pytest.fixture(scope="module")
def finished(bundle, tmp_path_factory):
    out = tmp_path_factory.mktemp("out") / "latency"
    assert main(study("latency", bundle, out)) == 0
    return out


def test_the_command_offers_every_study():
    assert set(NAMES) == set(STUDIES)


def test_a_study_leaves_a_table_figures_and_a_page(finished):
    rows = read(finished / "results.csv")
    assert {row["curve"] for row in rows} == {"topk", "topk-1", "wdmoe"}
    assert {row["seed"] for row in rows} == {"0", "1"}
    for row in rows:
        assert float(row["uplink_j"]) > 0.0
        assert float(row["perplexity"]) > 1.0
        # one band for those in use never needs more than a band of its own for each
        assert 0.0 < float(row["uplink_shared_j"]) <= float(row["uplink_j"]) * (1 + 1e-9)
        assert 0.0 < float(row["latency_optimal_s"]) <= float(row["latency_uniform_s"])
        if row["curve"] == "topk":
            assert float(row["saved"]) == float(row["perplexity_rise"]) == 0.0
            assert float(row["kept"]) == 1.0
    drawn = sorted(path.name for path in (finished / "figures").iterdir())
    assert drawn == [f"latency-{k}.{f}" for k in ("optimal", "uniform") for f in ("png", "svg")]
    page = (finished / "report.html").read_text(encoding="utf-8")
    assert page.count("<svg") == 2
    assert "WDMoE" in page
    assert "http" not in page.replace("http://www.w3.org", "")


def test_seeds_are_other_channels_and_other_text(finished):
    rows = [row for row in read(finished / "results.csv") if row["curve"] == "topk"]
    assert len({row["uplink_j"] for row in rows}) == 2
    assert len({row["perplexity"] for row in rows}) == 2


def test_a_study_goes_on_where_it_stopped(bundle, finished, tmp_path, capsys):
    out = tmp_path / "stopped"
    shutil.copytree(finished, out)
    whole = (out / CELLS_FILE).read_bytes().splitlines(keepends=True)
    # killed: two cells never ran, and the line of a third is broken off
    (out / CELLS_FILE).write_bytes(b"".join(whole[:-3]) + whole[-3][:40])
    assert main(study("latency", bundle, out, "--json")) == 0
    now = (out / CELLS_FILE).read_bytes().splitlines(keepends=True)
    assert now[: len(whole) - 3] == whole[:-3]
    assert len(now) == len(whole)
    found = json.loads(capsys.readouterr().out)
    assert len(found["rows"]) == len(whole)
    fixed = ("seed", "policy", "uplink_j", "perplexity", "latency_optimal_s")
    assert [[row[name] for name in fixed] for row in read(out / "results.csv")] == [
        [row[name] for name in fixed] for row in read(finished / "results.csv")
    ]


def test_another_configuration_is_refused(bundle, finished, capsys):
    before = (finished / CELLS_FILE).read_bytes()
    assert main(study("latency", bundle, finished, "--seeds", "3")) == 1
    said = capsys.readouterr().err
    assert "seeds was 2, now 3" in said
    assert "name another --out" in said
    assert main(study("bound", bundle, finished)) == 1
    assert "study was 'latency', now 'bound'" in capsys.readouterr().err
    assert (finished / CELLS_FILE).read_bytes() == before


def test_a_folder_of_something_else_is_refused(bundle, tmp_path, capsys):
    (tmp_path / "thesis.tex").touch()
    assert main(study("latency", bundle, tmp_path)) == 1
    assert "not empty and no study" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_the_bound_is_measured_layer_by_layer(bundle, tmp_path):
    assert main(study("bound", bundle, tmp_path / "bound", "--seeds", "1")) == 0
    rows = read(tmp_path / "bound" / "results.csv")
    assert {row["curve"] for row in rows} == {"layer 0", "layer 1"}
    for row in rows:
        assert 0.0 <= float(row["within"]) <= 1.0
        assert 0.0 <= float(row["deviating"]) <= 1.0
    assert any(float(row["measured_over_bound"] or 0) > 0.0 for row in rows)


def test_a_task_with_too_few_items_is_told(bundle, tmp_path, capsys):
    text = tmp_path / "short.txt"
    text.write_text("Return the number of items in the container. " * 8, encoding="utf-8")
    command = study("latency", bundle, tmp_path / "out", "--task", f"text:{text}", "--items", "4")
    assert main(command) == 1
    assert "items" in capsys.readouterr().err


def test_widths_are_compared(bundle, tmp_path, capsys):
    assert main(study("bits", bundle, tmp_path / "bits", "--seeds", "1", "--json")) == 0
    found = json.loads(capsys.readouterr().out)
    titles = [summary["title"] for summary in found["summary"]]
    assert any("over the best baseline's, less one" in title for title in titles)
    rows = [row for row in found["rows"] if row["task"] == "perplexity"]
    bits = {(row["curve"], row["knob"]): row["uplink_bits"] for row in rows}
    assert bits["topk", None] == 16.0
    assert bits["uniform width", 4.0] == 4.0
    spent = {(row["curve"], row["knob"]): row["uplink_j"] for row in rows}
    assert spent["uniform width", 2.0] < spent["uniform width", 6.0] < 0.5 * spent["topk", None]
    for curve in ("width by channel", "siftmoe, joint"):
        knobs = sorted((knob for name, knob in spent if name == curve), reverse=True)
        energies = [spent[curve, knob] for knob in knobs]
        assert energies == sorted(energies, reverse=True)
        assert all(2.0 <= bits[curve, knob] < 16.0 for knob in knobs)


def test_the_routers_logits_reach_its_policy(bundle):
    worker = Worker(work=Work(items=1))

    def outcome(template):
        cell = Cell(model=str(bundle), curve=template, template=template)
        return worker.do(Job.of(cell)).records[0]

    own, free = outcome("topk"), outcome("router-bias:price=1e3")
    biased = outcome("router-bias:price=1e-10:keep=0")
    assert free.metrics["perplexity"][0] == pytest.approx(own.metrics["perplexity"][0], rel=1e-4)
    assert free.uplink_j == pytest.approx(own.uplink_j)
    assert biased.uplink_j < 0.8 * own.uplink_j
    assert biased.replaced > 0.1
    assert biased.skipped == 0.0


def test_a_fixed_pair_of_widths_is_a_baseline(bundle):
    """Our selection at one width up and one back: what a choice of widths is compared with."""
    worker = Worker(work=Work(items=1))

    def outcome(template):
        cell = Cell(model=str(bundle), curve=template, template=template)
        return worker.do(Job.of(cell)).records[0]

    sixteen = outcome("siftmoe:price=1e-4")
    pair = outcome("siftmoe:price=1e-4:bits=4:downlink_bits=6")
    assert pair.uplink_bits == 4.0
    assert 0.0 < pair.uplink_j < sixteen.uplink_j
    assert pair.uplink_j < pair.downlink_j < sixteen.downlink_j


def test_circuits_shorten_bursts_and_are_most_of_the_energy(bundle):
    ask = Ask(models=(str(bundle),), seeds=1, tasks=("perplexity",), quick=True, shared_window=True)
    cells = [cell for cell in STUDIES["circuit"].cells(ask) if cell.curve == "topk"]
    assert [cell.setting.circuits for cell in cells] == [0.0, 1.0]
    worker = Worker(work=Work(items=1))
    without, typical = rows_of(worker.do(Job.of(cell)) for cell in cells)
    assert without["radiated_share"] == 1.0
    assert without["total_j"] == pytest.approx(without["radio_j"])
    assert typical["radiated_share"] < 0.5
    assert typical["total_j"] > 10 * without["total_j"]
    assert typical["airtime_s"] < 0.5 * without["airtime_s"]
    assert typical["saved_total"] == 0.0
    # a token's price unit is all that it costs
    unit_j = [worker._emulation(str(bundle)).unit_j(cell.setting) for cell in cells]
    assert unit_j[1] > 10 * unit_j[0]


def test_placed_experts_are_nearer_and_compute_the_same(bundle):
    """The cells of the study of placement, Top-K alone, on a small random model."""
    ask = Ask(models=(str(bundle),), seeds=1, tasks=("perplexity",), quick=True, shared_window=True)
    cells = [cell for cell in STUDIES["placement"].cells(ask) if cell.template == "topk"]
    assert [cell.curve for cell in cells] == ["topk", "topk, placed"]
    worker = Worker(work=Work(items=1))
    rows = rows_of(worker.do(Job.of(cell)) for cell in cells)
    assert rows[0]["saved"] == 0.0
    assert rows[1]["saved"] > 0.5  # of the energy with one host each in turn, 7 to 40 m
    assert abs(rows[1]["perplexity_rise"]) < 1e-4
    assert rows[1]["kept"] == 1.0
