from __future__ import annotations

import math

import numpy as np
import onnx
import pytest
from families import FAMILIES

from siftmoe.models.bundle import export
from siftmoe.models.bundle.export import build_expert
from siftmoe.models.bundle.parity import (
    golden_input,
    onnx_output,
    prove_parity,
    relative_error,
    torch_output,
)
from siftmoe.models.checkpoint import experts
from siftmoe.models.checkpoint.experts import Activation, ExpertWeights
from siftmoe.models.checkpoint.reader import Checkpoint
from siftmoe.models.errors import ExportParityError, UnsupportedArchitecture

D, INNER = 8, 12


def random_expert(activation, *, scale=1.0, biased=False, rng=None):
    rng = rng or np.random.default_rng(5)

    def draw(*shape):
        return (scale * rng.standard_normal(shape)).astype(np.float32)

    gate = draw(INNER, D) if activation.gated else None
    biases = {"up_bias": draw(INNER), "down_bias": draw(D)} if biased else {}
    if biased and activation.gated:
        biases["gate_bias"] = draw(INNER)
    return ExpertWeights(
        up=draw(INNER, D), down=draw(D, INNER), gate=gate, activation=activation, **biases
    )


def by_definition(weights, x):
    """The formula of the experts module, in float64 with the functions written out."""
    act = weights.activation

    def bias(b):
        return 0.0 if b is None else b.astype(np.float64)

    def phi(z):
        erf = np.vectorize(math.erf, otypes=[float])
        cubic = math.sqrt(2 / math.pi) * (z + 0.044715 * z**3)
        return {
            "swish": z / (1 + np.exp(-act.alpha * z)),
            "gelu": z / 2 * (1 + erf(z / math.sqrt(2))),
            "gelu_tanh": z / 2 * (1 + np.tanh(cubic)),
            "relu": np.maximum(z, 0),
            "relu_squared": np.maximum(z, 0) ** 2,
        }[act.function]

    x = x.astype(np.float64)
    up = x @ weights.up.T + bias(weights.up_bias)
    if weights.gate is None:
        inner = phi(up)
    else:
        gate = np.minimum(x @ weights.gate.T + bias(weights.gate_bias), act.limit)
        inner = phi(gate) * (np.clip(up, -act.limit, act.limit) + act.shift)
    return inner @ weights.down.T + bias(weights.down_bias)


def write(tmp_path, weights, dtype="float32"):
    path = tmp_path / "expert.onnx"
    build_expert(weights, dtype).write(path)
    return path


@pytest.mark.parametrize("biased", [False, True])
@pytest.mark.parametrize("gated", [False, True])
@pytest.mark.parametrize("function", list(experts.FUNCTIONS))
def test_every_function_computes_its_definition(tmp_path, function, gated, biased):
    weights = random_expert(Activation(function=function, gated=gated), biased=biased)
    hidden = golden_input(0, D)
    output = onnx_output(write(tmp_path, weights), hidden, "float32")
    assert relative_error(output, by_definition(weights, hidden)) < 1e-5


@pytest.mark.parametrize("shift", [0.0, 1.0])
def test_limits_and_shift_compute_their_definition(tmp_path, shift):
    activation = Activation(function="swish", gated=True, alpha=1.702, limit=2.0, shift=shift)
    weights = random_expert(activation, biased=True)
    hidden = golden_input(0, D)
    pre = hidden @ weights.up.T
    assert (pre > 2.0).any()
    assert (pre < -2.0).any()  # the limits take part
    output = onnx_output(write(tmp_path, weights), hidden, "float32")
    assert relative_error(output, by_definition(weights, hidden)) < 1e-5


def test_exporter_and_weights_know_the_same_functions():
    assert export._FUNCTIONS.keys() == experts.FUNCTIONS.keys()


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-5), ("float16", 1e-2)])
@pytest.mark.parametrize("family", list(FAMILIES))
def test_experts_of_every_family_equal_torch(tmp_path, family, dtype, tolerance, family_checkpoint):
    checkpoint = Checkpoint.open(family_checkpoint(family))
    layer = checkpoint.shape.num_layers - 1
    hidden = golden_input(layer, checkpoint.shape.hidden_size)
    for expert in range(checkpoint.shape.num_experts):
        path = write(tmp_path, checkpoint.read_expert(layer, expert), dtype)
        fused = checkpoint.read_fused(layer, expert)
        reference = torch_output(checkpoint.layers[layer], fused, hidden)
        assert np.abs(reference).max() > 0.1  # not a comparison of zeros
        assert relative_error(onnx_output(path, hidden, dtype), reference) < tolerance


@pytest.mark.parametrize("rows", [0, 1, 7, 300])
def test_any_number_of_rows(tmp_path, rows):
    weights = random_expert(Activation(function="swish", gated=True))
    hidden = np.random.default_rng(1).standard_normal((rows, D)).astype(np.float32)
    output = onnx_output(write(tmp_path, weights), hidden, "float32")
    np.testing.assert_allclose(output, by_definition(weights, hidden), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_the_file_is_valid_and_self_contained(tmp_path, dtype):
    weights = random_expert(Activation(function="gelu", gated=True), biased=True)
    model = onnx.load(write(tmp_path, weights, dtype))
    onnx.checker.check_model(model, full_check=True)
    assert (model.ir_version, model.opset_import[0].version) == (8, 17)
    assert [i.name for i in model.graph.input] == ["hidden"]
    assert [o.name for o in model.graph.output] == ["output"]
    element = onnx.TensorProto.FLOAT if dtype == "float32" else onnx.TensorProto.FLOAT16
    assert {t.data_type for t in model.graph.initializer} == {element}
    assert all(t.data_location == onnx.TensorProto.DEFAULT for t in model.graph.initializer)


def test_the_same_expert_gives_the_same_bytes(tmp_path):
    weights = random_expert(Activation(function="swish", gated=True))
    files = {write(tmp_path, weights).read_bytes() for _ in "ab"}
    assert len(files) == 1


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_a_file_written_by_parts_is_what_protobuf_writes(tmp_path, dtype):
    activation = Activation(function="swish", gated=True, limit=7.0, shift=1.0, alpha=1.7)
    weights = random_expert(activation, biased=True)
    written = write(tmp_path, weights, dtype).read_bytes()
    model = onnx.load_from_string(written)
    assert written == model.SerializeToString(deterministic=True)
    assert model == build_expert(weights, dtype).proto()
    up = onnx.numpy_helper.to_array(model.graph.initializer[0])
    assert np.array_equal(up, weights.up.T.astype(dtype))


def test_a_wrong_expert_is_not_passed(tmp_path, family_checkpoint):
    checkpoint = Checkpoint.open(family_checkpoint("olmoe"))
    hidden = golden_input(0, 16)
    reference = torch_output(checkpoint.layers[0], checkpoint.read_fused(0, 1), hidden)
    weights = checkpoint.read_expert(0, 1)
    weights.down[3, 5] *= 1.01  # one weight, one percent
    with pytest.raises(ExportParityError, match=r"expert 1: its ONNX file deviates .* 1e-05 is"):
        prove_parity(
            write(tmp_path, weights),
            name="expert 1",
            hidden=hidden,
            reference=reference,
            dtype="float32",
        )


def test_an_output_that_is_not_a_number_is_not_passed(tmp_path):
    path = write(tmp_path, random_expert(Activation(function="swish", gated=True)))
    hidden = golden_input(0, D)
    with pytest.raises(ExportParityError, match="deviates from torch by nan"):
        prove_parity(
            path, name="x", hidden=hidden, reference=np.full((4, D), np.nan), dtype="float32"
        )


def test_weights_beyond_float16_are_refused_and_named():
    weights = random_expert(Activation(function="swish", gated=True), scale=1e5)
    with pytest.raises(UnsupportedArchitecture, match=r"weight 'up' .* float16.*--dtype float32"):
        build_expert(weights, "float16")


def test_an_expert_beyond_two_gigabytes_is_refused_before_it_is_built():
    # a view of one row: the size counts, no memory is taken
    large = np.broadcast_to(np.zeros(32_768, np.float32), (10_000, 32_768))
    weights = ExpertWeights(
        up=large, down=large.T, activation=Activation(function="relu", gated=False)
    )
    with pytest.raises(UnsupportedArchitecture, match=r"2.44 GiB .*--dtype float16 halves it"):
        build_expert(weights, "float32")
