"""The shipped checkpoints and evaluation sets: complete, unchanged, held out, not lopsided."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoTokenizer, MixtralForCausalLM

from siftmoe.models import tiny
from siftmoe.models.tasks.evaluation import Task, load_task
from siftmoe.models.tasks.files import read_choice, read_documents
from siftmoe.models.tiny.files import CHECKPOINTS, DATA, checkpoint_dir, data_path
from siftmoe.models.tiny.shipped import differences, shipped_files
from siftmoe.models.training import train as train_module
from siftmoe.models.training.corpus import PACKAGES, SPLITS, clean_paragraphs, docstrings, split_of
from siftmoe.models.training.evalsets import LEAK_WORDS, Continuation, Options, choice_items, words
from siftmoe.models.training.evaluate import run_task, token_scores
from siftmoe.models.training.loss import head_cross_entropy
from siftmoe.models.training.model import load_balancing_loss, new_model, upcycle
from siftmoe.models.training.train import RECIPES, Recipe, Training, Windows

ROOT = Path(tiny.__file__).parent
CHOICE = {split: read_choice(data_path(f"choice-{split}")) for split in ("val", "test")}


@pytest.fixture(scope="module")
def upcycled():
    return MixtralForCausalLM.from_pretrained(checkpoint_dir("upcycled"), dtype=torch.float32)


@pytest.fixture(scope="module")
def tokenizer():
    return AutoTokenizer.from_pretrained(checkpoint_dir("upcycled"))


# --- What ships ------------------------------------------------------------------------------


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
        assert choice["num_items"] == len(CHOICE["test"])
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


# --- The evaluation sets ---------------------------------------------------------------------


def test_there_are_enough_items():
    assert len(CHOICE["test"]) >= 1000
    assert len(CHOICE["val"]) >= 300
    assert len(read_documents(data_path("perplexity-test"))) >= 500
    assert len(read_documents(data_path("perplexity-val"))) >= 200


@pytest.mark.parametrize("split", CHOICE)
def test_no_place_and_no_length_gives_the_answer_away(split):
    items = CHOICE[split]
    error = np.sqrt(0.25 * 0.75 / len(items))
    places = Counter(item.answer for item in items)
    ranks = Counter(
        sorted(map(len, item.options)).index(len(item.options[item.answer])) for item in items
    )
    for counts in (places, ranks):
        assert set(counts) == {0, 1, 2, 3}
        assert all(abs(n / len(items) - 0.25) < 4 * error for n in counts.values())


@pytest.mark.parametrize("split", CHOICE)
def test_options_differ_and_have_like_lengths(split):
    for item in CHOICE[split]:
        assert len(set(item.options)) == 4
        answer = len(item.options[item.answer])
        assert all(0.6 * answer <= len(o) <= answer / 0.6 for o in item.options)


def test_no_test_text_stands_in_the_calibration_text():
    def grams(text: str) -> set[tuple[str, ...]]:
        row = words(text)
        return {tuple(row[k : k + LEAK_WORDS]) for k in range(len(row) - LEAK_WORDS + 1)}

    calibration = data_path("calibration").read_text(encoding="utf-8")
    known = grams(calibration)
    paragraphs = set(calibration.split("\n"))
    for item in (*CHOICE["test"], *CHOICE["val"]):
        assert grams(item.options[item.answer]).isdisjoint(known)
    for split in ("val", "test"):
        for document in read_documents(data_path(f"perplexity-{split}")):
            # A long paragraph is in one split alone; short ones ("Returns") are in all.
            assert not [p for p in document.split("\n") if len(p) > 150 and p in paragraphs]


def test_sources_are_held_out():
    for split in ("val", "test"):
        for kind in ("choice", "perplexity"):
            lines = data_path(f"{kind}-{split}").read_text().splitlines()
            assert {split_of(json.loads(line)["source"]) for line in lines} == {split}


# --- The checkpoints at work -----------------------------------------------------------------


def test_a_checkpoint_predicts_and_an_untrained_one_does_not(upcycled, tokenizer):
    trained = run_task("perplexity", upcycled.eval(), tokenizer, 6)
    assert trained.metrics["perplexity"].value < 60
    untrained = new_model(8, seed=0).eval()
    assert run_task("perplexity", untrained, tokenizer, 1).metrics["perplexity"].value > 1000


def test_log_probabilities_do_not_depend_on_padding(upcycled, tokenizer):
    task = load_task("choice", tokenizer=tokenizer, limit=1)
    assert isinstance(task, Task)
    (batch,) = task.batches(8)
    logprobs, hits = token_scores(upcycled.eval(), batch)
    lengths = batch.attention_mask.sum(axis=1)
    assert len(set(lengths)) > 2
    for single in task.batches(1):
        (b,) = np.flatnonzero(batch.rows == single.rows[0])
        expected, expected_hits = token_scores(upcycled, single)
        np.testing.assert_allclose(logprobs[b, : lengths[b]], expected[0], atol=2e-4)
        assert np.array_equal(hits[b, : lengths[b]], expected_hits[0])


def test_the_tokenizer_starts_a_prompt_and_gives_text_back(tokenizer):
    text = "Return the sum of `x` over 12 axes.\n\n    é → ok"
    tokens = tokenizer(text)["input_ids"]
    assert tokens[0] == tokenizer.bos_token_id
    assert tokenizer.decode(tokens[1:]) == text


# --- How they are made -----------------------------------------------------------------------


def test_docstrings_and_their_prose():
    source = '''
def f():
    """First line.

    >>> f()
    1

    More of :func:`~a.b` and ``code``, on
    two lines.

    ====== ======
    1 2 3  4 5 6
    """
add_newdoc("m", "x", "A long text. %s")
''' % ("word " * 50)
    first, second = docstrings(source)
    assert clean_paragraphs(first) == ["First line.", "More of a.b and code, on two lines."]
    assert second.startswith("A long text.")


def test_the_loss_equals_the_plain_one():
    torch.manual_seed(0)
    hidden = torch.randn(600, 16, dtype=torch.double, requires_grad=True)
    weight = torch.randn(50, 16, dtype=torch.double, requires_grad=True)
    targets = torch.randint(0, 50, (600,))
    ours = head_cross_entropy(hidden, weight, targets)
    plain = torch.nn.functional.cross_entropy(hidden @ weight.T, targets)
    torch.testing.assert_close(ours, plain)
    for a, b in zip(
        torch.autograd.grad(3 * ours, (hidden, weight)),
        torch.autograd.grad(3 * plain, (hidden, weight)),
        strict=True,
    ):
        torch.testing.assert_close(a, b)


def test_the_balancing_loss_sees_single_layers():
    even = torch.zeros(4, 4).fill_diagonal_(9.0) + torch.zeros(4, 4).fill_diagonal_(9.0).roll(1, 1)
    first = torch.tensor([[9.0, 9.0, 0.0, 0.0]] * 4)
    last = first.flip(1)  # each layer has collapsed, their sum is even
    assert load_balancing_loss((even, even), 2).item() == pytest.approx(2.0, abs=1e-3)
    assert load_balancing_loss((first, last), 2).item() > 3.9


def test_upcycling_keeps_three_quarters_of_each_expert():
    dense = new_model(1, seed=0)
    model = upcycle(dense, seed=1)
    old = dense.model.layers[2].mlp.experts
    new = model.model.layers[2].mlp.experts
    redrawn = set()
    for expert in range(8):
        same = (new.gate_up_proj[expert] == old.gate_up_proj[0]).all(dim=1)
        assert same.sum() == 2 * 192
        assert (same[:256] == same[256:]).all()  # gate and up of a unit are redrawn together
        assert ((new.down_proj[expert] == old.down_proj[0]).all(dim=0) == same[:256]).all()
        redrawn.add(tuple(same.tolist()))
    assert len(redrawn) == 8
    assert torch.equal(model.model.embed_tokens.weight, dense.model.embed_tokens.weight)


def test_a_longer_recipe_starts_the_same():
    short, long = Recipe(steps=1000), Recipe(steps=2000)
    assert [short.rate(s) for s in range(700)] == [long.rate(s) for s in range(700)]
    assert short.rate(0) == pytest.approx(3e-5)
    assert short.rate(850) == pytest.approx(1.5e-3)
    assert short.rate(999) == pytest.approx(1e-5)


def test_windows_visit_everything_once_an_epoch():
    windows = Windows(np.arange(20_000), seed=3)
    count = (20_000 - 1) // 256 - 1
    batches = [windows.batch(step) for step in range(count // 8)]
    starts = {tuple(row[:2].tolist()) for batch in batches for row in batch}
    assert len(starts) == len(batches) * 8
    assert torch.equal(Windows(np.arange(20_000), seed=3).batch(5), batches[5])


def test_a_training_that_was_stopped_ends_with_the_same_weights(tmp_path, monkeypatch):
    monkeypatch.setattr(train_module, "WINDOW", 16)
    monkeypatch.setattr(train_module, "VAL_WINDOWS", 8)
    rng = np.random.default_rng(0)
    for split in ("train", "val"):
        np.save(tmp_path / f"{split}.npy", rng.integers(4, 2048, size=2_000).astype(np.uint16))

    def train(work: str, *stops: int) -> torch.Tensor:
        for steps in stops:
            recipe = Recipe(steps=steps, num_experts=2, warmup_steps=1, decay_share=0.0)
            training = Training("x", recipe, tokens=tmp_path, work=tmp_path / work)
            training.run()
        return training.model.lm_head.weight.detach()

    assert torch.equal(train("whole", 3), train("parts", 1, 3))


def test_items_are_balanced_in_length_and_overlap():
    rng = np.random.default_rng(0)
    vocabulary = [f"word{k}" for k in range(120)]

    def text(count: int) -> str:
        return " ".join(rng.choice(vocabulary, size=count))

    pool = [Continuation(f"file{k}", text(20), text(int(rng.integers(6, 12)))) for k in range(240)]
    options = Options(pool)
    items = list(choice_items([[c] for c in pool], options, limit=200, seed=0))
    assert len(items) == 200
    longest = [max(item["options"], key=len) == item["options"][item["answer"]] for item in items]
    assert 0.13 < np.mean(longest) < 0.37  # 0.25 and four standard errors
