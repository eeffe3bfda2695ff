"""Base graphs and the encoder, against the parity checks."""

import numpy as np
import pytest

from siftmoe.radio.modem.coding.code import BlockCode
from siftmoe.radio.modem.coding.graphs import lifted, lifting_sizes
from siftmoe.radio.modem.coding.plain import violated


def test_lifting_sizes_are_those_of_the_standard():
    sizes = lifting_sizes()
    assert len(sizes) == 51
    assert sizes[:8] == (2, 3, 4, 5, 6, 7, 8, 9)
    assert sizes[-3:] == (320, 352, 384)


@pytest.mark.parametrize(
    ("number", "rows", "columns", "circulants"), [(1, 46, 68, 316), (2, 42, 52, 197)]
)
def test_shape_of_the_base_graphs(number, rows, columns, circulants):
    graph = lifted(number, 384)
    assert graph.rows == rows
    assert graph.length == columns * 384
    assert len(graph.columns) == circulants
    for row in range(4, rows):  # every row of the extension adds one column of degree one
        used, shifts = graph.edges(row)
        assert used[-1] == graph.information + row
        assert shifts[-1] == 0


@pytest.mark.parametrize("number", [1, 2])
@pytest.mark.parametrize("size", lifting_sizes())
def test_encoded_words_fulfil_every_check(number, size):
    graph = lifted(number, size)
    rng = np.random.default_rng(size)
    code = BlockCode(graph=graph, payload=graph.information * size)
    bits = rng.integers(0, 2, code.payload).astype(np.uint8)
    word = code.encode(bits)
    assert np.array_equal(word.reshape(-1)[: code.payload], bits)
    assert violated(word.astype(bool), graph, rows=graph.rows) == 0


def test_a_damaged_word_violates_checks():
    graph = lifted(2, 8)
    code = BlockCode(graph=graph, payload=graph.information * 8)
    word = code.encode(np.ones(code.payload, np.uint8)).astype(bool)
    word[3, 5] ^= True
    degree = int(np.sum(graph.columns == 3))
    assert violated(word, graph, rows=graph.rows) == degree


def test_encoding_fewer_rows_leaves_the_rest_empty():
    graph = lifted(1, 12)
    code = BlockCode(graph=graph, payload=graph.information * 12)
    bits = np.random.default_rng(0).integers(0, 2, code.payload).astype(np.uint8)
    whole, part = code.encode(bits), code.encode(bits, rows=9)
    assert np.array_equal(part[: 22 + 9], whole[: 22 + 9])
    assert not part[22 + 9 :].any()


@pytest.mark.parametrize(("number", "size"), [(3, 8), (1, 17), (2, 0)])
def test_unknown_graphs_are_refused(number, size):
    with pytest.raises(ValueError, match=r"ldpc"):
        lifted(number, size)


def test_a_block_of_another_length_is_refused():
    graph = lifted(2, 8)
    with pytest.raises(ValueError, match="80 bits, got shape"):
        BlockCode(graph=graph, payload=80).encode(np.zeros(79, np.uint8))
