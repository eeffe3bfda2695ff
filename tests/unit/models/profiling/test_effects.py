"""The loss that a profile predicts, compared with the measured loss."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from families import VOCABULARY, save_checkpoint

from siftmoe.models.bundle.reader import Bundle
from siftmoe.models.bundle.writer import prepare_bundle
from siftmoe.models.profiling.amplification import PerturbedLayers, random_deviation
from siftmoe.models.profiling.experts import ExpertStore
from siftmoe.models.profiling.forward import ProfiledModel
from siftmoe.models.profiling.measure import EFFECT_WINDOWS, ProfileOptions, measure_windows
from siftmoe.models.profiling.text import CalibrationText, calibration_windows
from siftmoe.models.tiny.files import checkpoint_dir, data_path

WINDOWS = 20


class Disturbed:
    """A bundle's model that can be run with random deviations in one layer."""

    def __init__(self, folder, tokens):
        bundle = Bundle.open(folder)
        self.profiled = ProfiledModel(bundle.load_backbone())
        store = ExpertStore(bundle, self.profiled.layers, max_bytes=1 << 32)
        self.layers = PerturbedLayers(store)
        self.profiled.function = self.layers
        self.tokens = torch.from_numpy(tokens)
        self.generator = torch.Generator().manual_seed(77)
        with torch.no_grad():
            self.clean = self.profiled.logits(self.tokens).log_softmax(dim=-1)

    def divergence(self, layer, size):
        """Mean loss by deviations of this norm, nats per token."""
        delta = random_deviation(
            self.layers, layer, self.tokens, size=size, generator=self.generator
        )
        self.layers.layer, self.layers.delta = layer, delta.flatten(0, 1)
        with torch.no_grad():
            logits = self.profiled.logits(self.tokens).log_softmax(dim=-1)
        return float((self.clean.exp() * (self.clean - logits)).sum(dim=-1).mean())


@pytest.fixture(scope="module")
def smooth(tmp_path_factory):
    """A random model whose router selects every expert, so that its output is smooth."""
    folder = tmp_path_factory.mktemp("smooth")
    options = {"num_experts_per_tok": 4, "initializer_range": 0.15}
    checkpoint = save_checkpoint("mixtral", folder / "model", **options)
    return prepare_bundle(checkpoint, folder / "bundle").root


def test_the_fisher_sensitivity_predicts_the_loss_of_a_smooth_model(smooth):
    windows = np.random.default_rng(8).integers(3, VOCABULARY, (EFFECT_WINDOWS, 24))
    options = ProfileOptions(max_tokens=windows.size, window=24)
    _, found = measure_windows(Bundle.open(smooth), windows, options=options)
    model = Disturbed(smooth, windows)
    for layer in range(2):
        size = 0.02 * found["output_norm"].value[layer]
        predicted = 0.5 * found["sensitivity"].value[layer] * size**2
        divergence = np.mean([model.divergence(layer, size) for _ in range(4)])
        assert divergence == pytest.approx(predicted, rel=0.1)


@pytest.fixture(scope="module")
def upcycled(tmp_path_factory):
    """The shipped model: its bundle, its profile on some windows, and other windows."""
    root = prepare_bundle(checkpoint_dir("upcycled"), tmp_path_factory.mktemp("up") / "b").root
    bundle = Bundle.open(root)
    windows = calibration_windows(
        CalibrationText.read(data_path("calibration")),
        bundle.load_tokenizer(),
        max_tokens=2 * WINDOWS * 128,
        window=128,
        seed=0,
    )
    options = ProfileOptions(max_tokens=WINDOWS * 128)
    _, found = measure_windows(bundle, windows[::2], options=options)
    return root, found, windows[1::2]


def test_the_fisher_sensitivity_is_exact_where_no_router_follows(upcycled):
    root, found, others = upcycled
    last = len(found["sensitivity"].value) - 1
    model = Disturbed(root, others)
    for share in (0.05, 0.2, 0.4):
        size = share * found["output_norm"].value[last]
        predicted = 0.5 * found["sensitivity"].value[last] * size**2
        assert model.divergence(last, size) == pytest.approx(predicted, rel=0.15)


def test_the_response_predicts_the_loss_of_deviations_of_realistic_size(upcycled):
    root, found, others = upcycled
    model = Disturbed(root, others)
    response, sensitivity = found["response"], found["sensitivity"]
    for layer, norm in enumerate(found["output_norm"].value):
        size = 0.4 * norm
        predicted = 0.5 * response.value[layer] * size**2
        assert model.divergence(layer, size) == pytest.approx(predicted, rel=0.25)
        # changes of routing only add to the gradients' figure
        room = 3 * np.hypot(response.error[layer], sensitivity.error[layer])
        assert response.value[layer] > sensitivity.value[layer] - room


def test_disturbing_one_token_of_a_window_is_a_decoding_step_on_a_clean_cache(upcycled):
    root, found, others = upcycled
    model = Disturbed(root, others[:8])
    base = model.profiled.model.base_model
    tokens, prefix = model.tokens, model.tokens.shape[1] - 1
    layer, size = 2, 0.1 * float(found["output_norm"].value[2])
    delta = random_deviation(
        model.layers, layer, tokens, size=size, generator=model.generator
    )  # [B, S, d]
    delta[:, :prefix] = 0.0
    with torch.no_grad():
        model.layers.layer = None
        clean = model.profiled.final_hidden(tokens)[:, -1:]
        cache = base(input_ids=tokens[:, :prefix], use_cache=True).past_key_values
        model.layers.layer, model.layers.delta = layer, delta.flatten(0, 1)
        window = model.profiled.final_hidden(tokens)[:, -1:]
        model.layers.delta = delta[:, prefix]
        step = base(input_ids=tokens[:, prefix:], past_key_values=cache).last_hidden_state
    assert torch.allclose(step, window, atol=1e-3)
    assert (window - clean).norm(dim=-1).min() > 0.05 * size
