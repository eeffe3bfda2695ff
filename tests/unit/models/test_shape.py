from __future__ import annotations

import msgspec
import pytest

from siftmoe.models.shape import ModelShape

SIZES = {
    "num_layers": 2,
    "num_experts": 4,
    "top_k": 2,
    "hidden_size": 8,
    "intermediate_size": 16,
    "activation": "silu",
}


def test_parameters_of_a_gated_biased_expert_are_counted():
    shape = ModelShape(**SIZES, gated=True, biased=True)
    assert shape.expert_num_parameters == 3 * 8 * 16 + 2 * 16 + 8
    assert shape.expert_num_bytes("float16") == 2 * shape.expert_num_parameters


def test_parameters_of_a_plain_expert_are_counted():
    assert ModelShape(**SIZES, gated=False).expert_num_parameters == 2 * 8 * 16


@pytest.mark.parametrize("name", ["num_layers", "num_experts", "top_k", "hidden_size"])
def test_sizes_are_positive(name):
    with pytest.raises(ValueError, match=f"{name} must be positive, got 0"):
        ModelShape(**{**SIZES, name: 0})


def test_no_more_experts_are_picked_than_there_are():
    with pytest.raises(ValueError, match="top_k 5 is more than the 4 experts"):
        ModelShape(**{**SIZES, "top_k": 5})


def test_a_bad_size_in_json_is_an_error_of_decoding():
    text = msgspec.json.encode({**SIZES, "top_k": 9})
    with pytest.raises(msgspec.ValidationError, match="top_k 9"):
        msgspec.json.decode(text, type=ModelShape)


@pytest.mark.parametrize(("layer", "expert"), [(-1, 0), (2, 0), (0, 4), (0, -1)])
def test_an_expert_that_does_not_exist_is_refused(layer, expert):
    with pytest.raises(ValueError, match=f"no expert {expert} of layer {layer}"):
        ModelShape(**SIZES).check_expert(layer, expert)
