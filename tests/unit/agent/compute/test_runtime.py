import dataclasses

import numpy as np
import pytest
from bundles import reference, shape_of, write_bundle

from siftmoe.agent.compute.providers import PROVIDERS, open_session, prove, provider_order
from siftmoe.agent.compute.runtime import Runtime
from siftmoe.agent.errors import (
    ConfigError,
    ExpertNotResident,
    ProviderUnavailable,
    ShapeMismatch,
)
from siftmoe.models.bundle.manifest import Manifest
from siftmoe.models.errors import BundleCorrupt

SHAPE = shape_of()
RESIDENTS = ((0, 0), (0, 2), (1, 1))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_bundle(tmp_path_factory.mktemp("bundle") / "plain", SHAPE)


def load(folder, residents=RESIDENTS, *, providers=("cpu",), threads=1):
    return Runtime.load(Manifest.load(folder), residents, providers=providers, threads=threads)


@pytest.fixture(scope="module")
def runtime(folder):
    return load(folder)


def apply(runtime, layer, hidden, pairs, weights):
    return runtime.apply(
        layer, hidden, pairs=np.array(pairs, np.int32), weights=np.array(weights, np.float32)
    )


def expected(layer, hidden, pairs, weights):
    total = np.zeros(hidden.shape)
    for (row, expert), weight in zip(pairs, weights, strict=True):
        total[row] += weight * reference(SHAPE, layer, expert, hidden[row : row + 1])[0]
    return total


@pytest.mark.parametrize(
    "pairs",
    [
        [(0, 2)],
        [(0, 0), (0, 2)],
        [(3, 2), (0, 0), (1, 2), (0, 2)],
        [(row, 2) for row in range(5)],
        [(row, 0) for row in reversed(range(5))],
        [(1, 0), (1, 0), (2, 2), (1, 2), (1, 0)],
    ],
)
def test_each_row_is_the_weighted_sum_of_its_experts(runtime, pairs):
    hidden = np.random.default_rng(1).standard_normal((5, 16)).astype(np.float32)
    weights = np.random.default_rng(2).uniform(-2, 2, len(pairs))
    output = apply(runtime, 0, hidden, pairs, weights)
    assert output.dtype == np.float32
    np.testing.assert_allclose(output, expected(0, hidden, pairs, weights), atol=1e-5)


def test_rows_are_independent(runtime):
    """A batch is its rows, and a row that overflowed does not spread."""
    hidden = np.random.default_rng(3).standard_normal((4, 16)).astype(np.float32)
    pairs = [(row, expert) for row in range(4) for expert in (0, 2)]
    whole = apply(runtime, 0, hidden, pairs, np.ones(8))
    ill = hidden.copy()
    ill[1] = np.inf
    output = apply(runtime, 0, ill, pairs, np.ones(8))
    assert not np.isfinite(output[1]).any()
    np.testing.assert_array_equal(np.delete(output, 1, 0), np.delete(whole, 1, 0))


def test_inputs_from_the_wire_are_not_written_to(runtime):
    hidden = np.frombuffer(bytes(16 * 4 + 1)[1:], np.float32).reshape(1, 16)
    assert apply(runtime, 1, hidden, [(0, 1)], [1.0]).tolist() == [[0.0] * 16]
    assert not hidden.any()


def test_float16_experts_and_float16_rows(tmp_path, runtime):
    half = load(write_bundle(tmp_path / "half", SHAPE, dtype="float16"))
    hidden = np.random.default_rng(4).standard_normal((3, 16)).astype(np.float32)
    pairs, weights = [(0, 0), (2, 2), (2, 0)], [0.5, 1.0, -2.0]
    wanted = expected(0, hidden, pairs, weights)
    for host in (half, runtime):
        for rows in (hidden, hidden.astype(np.float16)):
            output = apply(host, 0, rows, pairs, weights)
            assert output.dtype == np.float32
            np.testing.assert_allclose(output, wanted, atol=2e-2)


def test_beyond_float16_is_infinite_and_no_warning(tmp_path):
    half = load(write_bundle(tmp_path / "half", SHAPE, dtype="float16"))
    hidden = np.full((1, 16), 1e6, np.float32)
    assert not np.isfinite(apply(half, 0, hidden, [(0, 0)], [1.0])).all()


def test_only_what_was_given_is_hosted(runtime):
    assert runtime.residents == RESIDENTS
    hidden = np.zeros((1, 16), np.float32)
    with pytest.raises(ExpertNotResident, match="expert 1 of layer 0"):
        apply(runtime, 0, hidden, [(0, 1)], [1.0])
    with pytest.raises(ExpertNotResident, match="expert 0 of layer 7"):
        apply(runtime, 7, hidden, [(0, 0)], [1.0])


def test_a_wrong_width_never_reaches_an_expert(runtime):
    with pytest.raises(ShapeMismatch, match="vectors of 15, the model served has 16"):
        apply(runtime, 0, np.zeros((1, 15), np.float32), [(0, 0)], [1.0])


def test_a_file_with_another_hash_is_not_loaded(tmp_path):
    folder = write_bundle(tmp_path / "bundle", SHAPE)
    path = folder / "experts/layer_001_expert_001.onnx"
    content = bytearray(path.read_bytes())
    content[-10] ^= 1
    path.write_bytes(content)
    with pytest.raises(BundleCorrupt, match="expert 1 of layer 1 has sha256"):
        load(folder)
    assert load(folder, [(0, 0)]).residents == ((0, 0),)


def test_a_missing_file_is_named(tmp_path):
    folder = write_bundle(tmp_path / "bundle", SHAPE)
    (folder / "experts/layer_000_expert_002.onnx").unlink()
    with pytest.raises(BundleCorrupt, match="expert 2 of layer 0 is missing"):
        load(folder)


def test_a_provider_with_a_wrong_result_is_refused(tmp_path):
    folder = write_bundle(tmp_path / "bundle", SHAPE, golden_error=1e-3)
    with pytest.raises(ProviderUnavailable, match=r"cpu: expert 0 of layer 0: .* off by 1\.0e-03"):
        load(folder)


def test_the_next_provider_is_taken_and_it_is_told_why(folder, capfd):
    """On any machine: refused providers have a reason, and the chosen one computes the result."""
    order = provider_order("auto")
    runtime = load(folder, providers=order)
    taken = next(name for name in order if PROVIDERS[name] == runtime.provider)
    assert list(runtime.refused) == list(order[: order.index(taken)])
    assert all(reason for reason in runtime.refused.values())
    for expert in runtime.experts.values():
        assert expert.session.get_providers()[0] == runtime.provider
    assert capfd.readouterr() == ("", "")


def test_a_provider_that_is_not_here_is_an_error_not_a_fallback(folder, capfd):
    import onnxruntime

    path = folder / "experts/layer_000_expert_000.onnx"
    missing = [n for n, full in PROVIDERS.items() if n != "cpu" and not works(path, n)]
    for name in missing:
        with pytest.raises(ProviderUnavailable, match=r"\w"):
            open_session(path, provider=name, threads=1)
    assert capfd.readouterr() == ("", "")
    assert "CPUExecutionProvider" in onnxruntime.get_available_providers()


def works(path, name):
    try:
        open_session(path, provider=name, threads=1)
    except ProviderUnavailable:
        return False
    return True


def test_what_is_no_onnx_file_is_refused(tmp_path):
    path = tmp_path / "expert.onnx"
    path.write_bytes(b"not an expert")
    with pytest.raises(ProviderUnavailable, match=r"Protobuf|INVALID"):
        open_session(path, provider="cpu", threads=1)


@pytest.mark.parametrize("wrong", ["scaled", "nan", "shape"])
def test_the_proof_is_strict(folder, wrong):
    session = open_session(folder / "experts/layer_000_expert_000.onnx", provider="cpu", threads=1)
    golden = Manifest.load(folder).read_golden(0)
    right = golden.output[0]
    prove(session, golden_input=golden.input, golden_output=right, dtype="float32")
    other = {"scaled": right * 1.001, "nan": right * np.nan, "shape": right[:-1]}[wrong]
    with pytest.raises(ProviderUnavailable, match="golden output"):
        prove(session, golden_input=golden.input, golden_output=other, dtype="float32")


def test_memory_is_reported(tmp_path):
    shape = shape_of(num_layers=1, num_experts=2, hidden_size=512, intermediate_size=1024)
    folder = write_bundle(tmp_path / "bundle", shape)
    runtime = load(folder, [(0, 0), (0, 1)])
    weights = 2 * shape.expert_num_bytes("float32")
    assert weights < runtime.file_bytes < 1.01 * weights
    assert 0.9 * weights < runtime.memory_bytes < 2.5 * weights


def test_threads_do_not_change_the_result(folder, runtime):
    hidden = np.random.default_rng(5).standard_normal((9, 16)).astype(np.float32)
    pairs = [(row, 1) for row in range(9)]
    np.testing.assert_allclose(
        apply(load(folder, threads=2), 1, hidden, pairs, np.ones(9)),
        apply(runtime, 1, hidden, pairs, np.ones(9)),
        atol=1e-6,
    )


def test_an_order_of_providers():
    assert provider_order("auto") == ("tensorrt", "cuda", "cpu")
    assert provider_order("CUDA, cpu,cuda") == ("cuda", "cpu")
    with pytest.raises(ConfigError, match="provider 'npu' is not known"):
        provider_order("cpu,npu")


def test_a_runtime_is_not_changed_after_its_proof(runtime):
    with pytest.raises(dataclasses.FrozenInstanceError):
        runtime.provider = "CUDAExecutionProvider"
