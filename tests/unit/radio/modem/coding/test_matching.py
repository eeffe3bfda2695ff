"""Rate matching against the standard's own loops."""

import numpy as np
import pytest

from siftmoe.radio.modem.coding.code import block_code
from siftmoe.radio.modem.coding.graphs import lifted
from siftmoe.radio.modem.coding.matching import graph_for, largest_payload, positions, rows_needed

STARTS = {1: (0, 17, 33, 56), 2: (0, 13, 25, 43)}


def by_the_standard(graph, payload, sent, version, order):
    """Positions by the loops of 3GPP TS 38.212, 5.4.2.1 and 5.4.2.2."""
    size = graph.size
    buffer = graph.length - 2 * size
    fillers = range(payload - 2 * size, graph.information * size - 2 * size)
    selected, j = [], 0
    while len(selected) < sent:
        place = (STARTS[graph.number][version] * size + j) % buffer
        if place not in fillers:
            selected.append(place + 2 * size)
        j += 1
    columns = sent // order
    return [selected[i * columns + j] for j in range(columns) for i in range(order)]


@pytest.mark.parametrize("version", [0, 1, 2, 3])
@pytest.mark.parametrize(("number", "size", "payload"), [(1, 7, 150), (2, 16, 96), (2, 9, 90)])
@pytest.mark.parametrize(("sent", "order"), [(240, 2), (1200, 6), (64, 8)])
def test_positions_are_those_of_the_standard(number, size, payload, version, sent, order):
    graph = lifted(number, size)
    found = positions(graph, payload=payload, sent=sent, version=version, bits_per_symbol=order)
    assert found.tolist() == by_the_standard(graph, payload, sent, version, order)


@pytest.mark.parametrize(
    ("payload", "rate", "number", "size"),
    [
        (96, 0.125, 2, 16),
        (292, 0.9, 2, 40),
        (544, 0.5, 2, 72),
        (3824, 0.67, 2, 384),
        (3824, 0.8, 1, 176),
        (8448, 0.5, 1, 384),
        (3840, 0.2, 2, 384),
    ],
)
def test_choice_of_graph_and_size(payload, rate, number, size):
    graph = graph_for(payload, rate=rate)
    assert (graph.number, graph.size) == (number, size)


def test_too_long_blocks_are_refused():
    assert graph_for(largest_payload(0.2), rate=0.2).size == 384
    with pytest.raises(ValueError, match="too long"):
        graph_for(largest_payload(0.2) + 1, rate=0.2)
    with pytest.raises(ValueError, match="too long"):
        graph_for(8449, rate=0.5)


def test_rows_needed_cover_the_bits_that_are_sent():
    code = block_code(1000, 0.5)
    graph = code.graph
    for sent in (1100, 1500, 2000, 4000):
        rows = rows_needed(graph, payload=1000, sent=sent)
        table = positions(graph, payload=1000, sent=sent, version=0, bits_per_symbol=2)
        last = int(table.max()) // graph.size - graph.information  # row of the last parity
        assert rows == min(max(last + 1, 4), graph.rows)


@pytest.mark.parametrize(
    ("sent", "version", "order"), [(100, 4, 2), (100, -1, 2), (7, 0, 2), (0, 0, 2)]
)
def test_impossible_requests_are_refused(sent, version, order):
    with pytest.raises(ValueError, match="rate matching"):
        positions(lifted(2, 16), payload=96, sent=sent, version=version, bits_per_symbol=order)


def test_the_first_bits_are_systematic():
    code = block_code(96, 0.5)
    bits = np.random.default_rng(0).integers(0, 2, 96).astype(np.uint8)
    selected = code.select(code.encode(bits), sent=64, version=0, bits_per_symbol=2)
    upper = selected[::2]  # the safer bits of 4-ary axes come first
    assert np.array_equal(upper, bits[32:64])
