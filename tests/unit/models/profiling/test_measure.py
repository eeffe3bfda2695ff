from __future__ import annotations

import gc
import tracemalloc
import weakref

import numpy as np
import pytest
import torch
from families import FAMILIES, VOCABULARY, build_model, save_checkpoint

from siftmoe.models.bundle.reader import Bundle
from siftmoe.models.bundle.writer import prepare_bundle
from siftmoe.models.checkpoint.layers import find_moe_layers
from siftmoe.models.profiling.experts import ExpertStore, LayerExperts
from siftmoe.models.profiling.forward import ProfiledModel
from siftmoe.models.profiling.measure import ProfileOptions, measure_windows
from siftmoe.models.profiling.products import ProductsPass, run_products

WINDOWS, LENGTH = 6, 16
OPTIONS = ProfileOptions(max_tokens=WINDOWS * LENGTH, window=LENGTH, expert_bytes=1 << 30)


def windows_of(count=WINDOWS, length=LENGTH):
    return np.random.default_rng(3).integers(3, VOCABULARY, (count, length))


def open_profiled(folder, *, max_bytes=1 << 30):
    bundle = Bundle.open(folder)
    profiled = ProfiledModel(bundle.load_backbone())
    return profiled, ExpertStore(bundle, profiled.layers, max_bytes=max_bytes)


class Recorder:
    """Records the inputs of the experts in the undivided model, and computes each expert alone."""

    def __init__(self, model):
        self.layers = find_moe_layers(model)
        self.calls = {}
        for layer in self.layers:
            layer.module.register_forward_pre_hook(self._record(layer.index), with_kwargs=True)

    def _record(self, index):
        def hook(_module, args, kwargs):
            self.calls.setdefault(index, [*args, *kwargs.values()][:3])

        return hook

    def outputs(self, index):
        """Every expert's output for every token, [E, T, d] float64."""
        layer = self.layers[index]
        hidden, picked, _ = self.calls[index]
        found = []
        for expert in range(layer.num_experts):
            ones = torch.ones(len(hidden), 1)
            if layer.adapter is not None:
                only = torch.zeros_like(picked)
                only[..., expert] = 1
                found.append(layer.module(hidden, only, ones))
            else:
                index_ = torch.full((len(hidden), 1), expert)
                found.append(layer.module(hidden, index_, ones))
        return torch.stack(found).double().numpy()

    def routing(self, index):
        _, picked, weights = self.calls[index]
        if self.layers[index].adapter is not None:
            picked = picked.argmax(dim=-1)
        return picked.numpy(), weights.double().numpy().reshape(picked.shape)


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_the_profile_of_a_bundle_equals_the_undivided_models(family, family_bundle):
    tokens = torch.from_numpy(windows_of())
    profiled, store = open_profiled(family_bundle(family))
    counts, found = run_products(profiled, store, tokens)
    model = build_model(family)
    recorder = Recorder(model)
    with torch.no_grad():
        model(**profiled._inputs(tokens))
        for index in range(len(recorder.layers)):
            outputs = recorder.outputs(index)
            picked, weights = recorder.routing(index)
            experts = range(len(outputs))
            assert counts[index].tolist() == [(picked == e).sum() for e in experts]
            norms = np.linalg.norm(outputs, axis=-1).mean(axis=1)
            assert found["expert_norm"].value[index] == pytest.approx(norms, rel=1e-4)
            rows = np.arange(len(picked))[:, None]
            combined = (weights[..., None] * outputs[picked, rows]).sum(axis=1)
            assert found["output_norm"].value[index] == pytest.approx(
                np.linalg.norm(combined, axis=1).mean(), rel=1e-4
            )
            for i in experts:
                token, slot = np.nonzero(picked == i)
                if not len(token):
                    continue
                assert found["gate_weight"].value[index, i] == pytest.approx(
                    weights[token, slot].mean(), rel=1e-4
                )
                distance = np.linalg.norm(outputs[i, token] - outputs[:, token], axis=-1)
                assert found["deviation"].value[index, i, :-1] == pytest.approx(
                    distance.mean(axis=1), rel=1e-3, abs=1e-4
                )


@pytest.mark.parametrize("family", ["mixtral", "switch"])
def test_profiling_does_not_change_what_the_model_computes(family, family_bundle):
    tokens = torch.from_numpy(windows_of())
    profiled, store = open_profiled(family_bundle(family))
    profiled.function = ProductsPass(store)
    with torch.no_grad():
        model = build_model(family)
        wanted = model(**profiled._inputs(tokens)).logits
        assert torch.allclose(profiled.logits(tokens), wanted, atol=1e-4)
        head = model.get_output_embeddings()
        hidden = profiled.final_hidden(tokens)
        factor = hidden.shape[-1] ** -0.5 if family == "switch" else 1.0  # tied T5 embeddings
        assert torch.allclose(head(hidden * factor), wanted, atol=1e-4)


def test_chunks_change_nothing_and_bound_what_exists_at_once(family_bundle, monkeypatch):
    tokens = torch.from_numpy(windows_of())
    profiled, store = open_profiled(family_bundle("olmoe"))
    _, whole = run_products(profiled, store, tokens)
    sizes = []
    outputs = LayerExperts.outputs

    def recorded(group, hidden):
        result = outputs(group, hidden)
        sizes.append(result.numel() * 8)
        return result

    monkeypatch.setattr(LayerExperts, "outputs", recorded)
    bound = 8 * 6 * 16 * 10 + 7  # not a multiple of a row's bytes
    chunked = ProductsPass(store, chunk_bytes=bound)
    profiled.function = chunked
    with torch.no_grad():
        profiled.final_hidden(tokens)
    assert len(sizes) > 2 * len(profiled.layers)
    assert max(sizes) <= bound
    for layer, (_, found) in chunked.statistics.items():
        for name, estimate in found.items():
            wanted = whole[name].value[layer]
            assert estimate.value == pytest.approx(wanted, rel=1e-5, abs=1e-6, nan_ok=True)


def test_an_empty_slot_counts_nowhere(family_bundle):
    _, store = open_profiled(family_bundle("mixtral"))
    hidden = torch.randn(8, 16, generator=torch.Generator().manual_seed(2))
    experts = torch.tensor([[0, 4], [1, 4], [4, 2], [3, 0], [4, 4], [2, 1], [0, 1], [4, 0]])
    weights = torch.full((8, 2), 0.5)
    layers = ProductsPass(store)
    output = layers(0, hidden, experts, weights)
    counts, _ = layers.statistics[0]
    assert counts.tolist() == [4, 3, 2, 1]
    assert (output[4] == 0.0).all()
    assert torch.allclose(output, store.layer(0).combine(hidden, experts, weights), atol=1e-5)
    alone = store.layer(0).outputs(hidden)
    assert torch.allclose(output[2], 0.5 * alone[2, 2], atol=1e-5)


@pytest.fixture(scope="module")
def deep_bundle(tmp_path_factory):
    """Eight layers whose experts are most of the model, 0.8 MB a layer."""
    folder = tmp_path_factory.mktemp("deep")
    options = {"num_hidden_layers": 8, "hidden_size": 64, "intermediate_size": 256}
    checkpoint = save_checkpoint("mixtral", folder / "model", **options)
    return prepare_bundle(checkpoint, folder / "bundle").root


def test_experts_beyond_the_memory_are_read_layer_by_layer(deep_bundle):
    shape = Bundle.open(deep_bundle).shape
    layer_bytes = shape.num_experts * shape.expert_num_bytes("float32")
    tokens = torch.from_numpy(windows_of())

    def peak_and_result(max_bytes):
        profiled, store = open_profiled(deep_bundle, max_bytes=max_bytes)
        run_products(profiled, store, tokens)  # everything that is cached is made here
        store = ExpertStore(Bundle.open(deep_bundle), profiled.layers, max_bytes=max_bytes)
        gc.collect()
        tracemalloc.start()
        try:
            found = run_products(profiled, store, tokens)
            return tracemalloc.get_traced_memory()[1], found
        finally:
            tracemalloc.stop()

    whole, (counts, found) = peak_and_result(shape.num_layers * layer_bytes)
    streamed, (same_counts, same) = peak_and_result(shape.num_layers * layer_bytes - 1)
    assert whole > shape.num_layers * layer_bytes
    assert streamed < 3 * layer_bytes
    assert (counts == same_counts).all()
    for name, estimate in found.items():
        np.testing.assert_array_equal(estimate.value, same[name].value)


def test_a_streamed_layer_is_let_go_of(deep_bundle):
    _, store = open_profiled(deep_bundle, max_bytes=0)
    group = weakref.ref(store.layer(0))
    gc.collect()
    assert group() is None
    assert not store.resident


def test_what_needs_all_experts_is_left_out_and_said(deep_bundle, caplog):
    options = ProfileOptions(max_tokens=96, window=16, expert_bytes=0)
    stages = []
    _, found = measure_windows(
        Bundle.open(deep_bundle), windows_of(), options=options, on_progress=stages.append
    )
    assert np.isnan(found["sensitivity"].value).all()
    assert np.isnan(found["amplification_decode"].value).all()
    assert np.isfinite(found["output_norm"].value).all()
    assert {progress.stage for progress in stages} == {"similarity"}
    assert "left out of the profile" in caplog.text


@pytest.mark.parametrize("family", ["mixtral", "switch"])
def test_everything_is_the_same_again_with_the_same_seed(family, family_bundle):
    bundle = Bundle.open(family_bundle(family))
    counts, first = measure_windows(bundle, windows_of(), options=OPTIONS)
    again, second = measure_windows(bundle, windows_of(), options=OPTIONS)
    assert (counts == again).all()
    for name, estimate in first.items():
        np.testing.assert_array_equal(estimate.value, second[name].value)
        np.testing.assert_array_equal(estimate.error, second[name].error)
    assert np.isfinite(first["sensitivity"].value).all()
    assert (first["sensitivity"].value > 0.0).all()
    assert (first["amplification_prefill"].value > 0.0).all()
    assert (first["amplification_decode"].value > 0.0).all()


@pytest.mark.parametrize(
    "options", [{"max_tokens": 7}, {"window": 0}, {"seed": -1}, {"expert_bytes": -1}]
)
def test_impossible_options_are_refused(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        ProfileOptions(**options)
