import msgpack
import numpy as np
import pytest

from siftmoe.agent.errors import ErrorCode, ProtocolError, UnknownWidth
from siftmoe.agent.wire import protocol
from siftmoe.agent.wire.bounds import MAX_RUNS
from siftmoe.agent.wire.packed import pack_rows, plain, plain_all, row_widths
from siftmoe.models.vectors.packing import row_bits
from siftmoe.models.vectors.quantise import WIDTHS, round_trip
from siftmoe.models.vectors.records import ROW_WIDTHS, to_records

D = 10
PAIRS = np.zeros((1, 2), "<i4").tobytes()
WEIGHTS = np.ones(1, "<f4").tobytes()


def rows_of(count, seed=0):
    return np.random.default_rng(seed).standard_normal((count, D)).astype(np.float32)


def mixed():
    """Three rows of 4 bits, two of 3, one of float16, one of float32."""
    rows = rows_of(7)
    parts = ((4, rows[:3]), (3, rows[3:5]), (16, rows[5:6]), (32, rows[6:]))
    return protocol.packed(
        [(width, to_records(part, width)) for width, part in parts], size=D, rotation="none"
    )


def frames(data=None, **changes):
    """Return the frames of an apply with packed rows; a key set to None is left out."""
    pack = mixed()
    header = {
        "v": 1,
        "id": 7,
        "kind": "apply",
        "layer": 1,
        "dtype": "packed",
        "shape": list(pack.shape),
        "widths": [list(run) for run in pack.runs],
        "rotation": "none",
        **changes,
    }
    header = {key: value for key, value in header.items() if value is not None}
    return [msgpack.packb(header), pack.data if data is None else data, PAIRS, WEIGHTS]


def with_step(row, bits):
    """Return the records of the mixed rows with another step in one of the first three."""
    data = bytearray(mixed().data)
    begin = row * row_bits(D, 4) // 8
    data[begin : begin + 2] = bits.to_bytes(2, "little")
    return bytes(data)


def test_the_frame_is_the_records_in_row_order():
    pack = mixed()
    request = protocol.decode(frames())
    assert request.hidden.shape == (7, D)
    assert request.hidden.runs == ((4, 3), (3, 2), (16, 1), (32, 1))
    assert bytes(request.hidden.data) == bytes(pack.data)
    assert request.hidden.nbytes * 8 == sum(n * row_bits(D, width) for width, n in pack.runs)
    rows = rows_of(7)
    expected = np.concatenate(
        [
            round_trip(part, width, rotation="none")
            for width, part in ((4, rows[:3]), (3, rows[3:5]), (16, rows[5:6]), (32, rows[6:]))
        ]
    )
    np.testing.assert_array_equal(plain(request.hidden), expected)


def test_only_quantised_rows_are_turned():
    rows = rows_of(6)
    half = pack_rows(rows[:3], 5, rotation="hadamard")
    runs = [(16, to_records(rows[3:5], 16)), *half.parts()]
    pack = protocol.packed([*runs, (32, to_records(rows[5:], 32))], size=D, rotation="hadamard")
    expected = [
        rows[3:5].astype(np.float16),
        round_trip(rows[:3], 5, rotation="hadamard"),
        rows[5:],
    ]
    np.testing.assert_array_equal(plain(pack), np.concatenate(expected))


@pytest.mark.parametrize("width", ROW_WIDTHS)
@pytest.mark.parametrize("reply_width", [None, *ROW_WIDTHS])
def test_a_request_says_how_wide_its_answer_is_to_be(width, reply_width):
    hidden = pack_rows(rows_of(2), width, rotation="none")
    request = protocol.Apply(
        id=1,
        layer=0,
        hidden=hidden,
        pairs=np.zeros((1, 2), np.int32),
        weights=np.ones(1, np.float32),
        reply_width=reply_width,
    )
    received = protocol.decode(protocol.encode(request))
    assert received.reply_width == reply_width
    assert received.answer_width == (reply_width or {32: 32}.get(width, 16))


@pytest.mark.parametrize("width", [16, 32])
def test_what_is_16_or_32_bits_throughout_goes_as_it_always_did(width):
    hidden = pack_rows(rows_of(2), width, rotation="hadamard")
    request = protocol.Apply(
        id=1,
        layer=0,
        hidden=hidden,
        pairs=np.zeros((1, 2), np.int32),
        weights=np.ones(1, np.float32),
    )
    result = protocol.Result(id=1, output=hidden, compute_s=0.5, queue_s=0.25)
    name = f"float{width}"
    assert protocol.encode(request)[0] == msgpack.packb(
        {
            "kind": "apply",
            "v": 1,
            "id": 1,
            "layer": 0,
            "dtype": name,
            "shape": [2, D],
            "deadline_ms": None,
        }
    )
    assert protocol.encode(result)[0] == msgpack.packb(
        {
            "kind": "result",
            "v": 1,
            "id": 1,
            "dtype": name,
            "shape": [2, D],
            "compute_s": 0.5,
            "queue_s": 0.25,
        }
    )
    assert bytes(protocol.encode(result)[1]) == rows_of(2).astype(f"<f{width // 8}").tobytes()


def test_a_hello_without_widths_is_an_older_agents():
    reply = protocol.HelloReply(
        id=1,
        name="a",
        version="1",
        model_hash="ab",
        residents=(),
        provider="CPUExecutionProvider",
        hidden_size=D,
        widths=ROW_WIDTHS,
    )
    (first,) = protocol.encode(reply)
    assert protocol.decode([first]).widths == ROW_WIDTHS
    header = msgpack.unpackb(first)
    del header["widths"]
    assert protocol.decode([msgpack.packb(header)]).widths == (16, 32)


@pytest.mark.parametrize(
    ("bits", "value"),
    [(0, "0.0"), (0x8000, "-0.0"), (0xBC00, "-0.0078125"), (0x7F80, "inf"), (0x7FC0, "nan")],
)
def test_a_step_that_is_none_is_refused_with_row_and_value(bits, value):
    about = f"hidden: the step of row 2 is {value}, it must be positive and finite"
    with pytest.raises(ProtocolError, match=about) as caught:
        protocol.decode(frames(with_step(2, bits)))
    assert caught.value.request_id == 7
    assert caught.value.code is ErrorCode.PROTOCOL


@pytest.mark.parametrize("bits", [1, 0x7F7F])
def test_any_other_step_is_taken_and_spoils_its_row_alone(bits):
    received = protocol.decode(frames(with_step(1, bits)))
    got, expected = plain(received.hidden), plain(mixed())
    np.testing.assert_array_equal(np.delete(got, 1, axis=0), np.delete(expected, 1, axis=0))


@pytest.mark.parametrize(
    ("changes", "about"),
    [
        ({"widths": None}, "is packed, the header has no widths"),
        ({"widths": []}, "widths"),
        ({"widths": [[4, 3]]}, "7 rows, its widths are for 3"),
        ({"widths": [[4, 3], [3, 2], [16, 1], [32, 2]]}, "7 rows, its widths are for 8"),
        ({"widths": [[4, 3], [3, 4]]}, "the frame has"),
        ({"widths": [[4, 0], [4, 7]]}, "widths"),
        ({"widths": [[4, -7]]}, "widths"),
        ({"widths": [[0, 7]]}, "widths"),
        ({"widths": [[65, 7]]}, "widths"),
        ({"widths": [[4.0, 7]]}, "widths"),
        ({"widths": [[4, 7, 1]]}, "widths"),
        ({"widths": [[4, 1]] * (MAX_RUNS + 1)}, "widths"),
        ({"widths": [[8, 65_536]] * MAX_RUNS}, "its widths are for"),
        ({"widths": "[[4, 7]]"}, "widths"),
        ({"rotation": "left"}, "rotation"),
        ({"dtype": "int4"}, "dtype"),
        ({"reply_width": 0}, "reply_width"),
        ({"reply_width": "8"}, "reply_width"),
        ({"reply_rotation": "right"}, "reply_rotation"),
        ({"shape": [65_536, 65_536], "widths": [[2, 65_536]]}, "at most 268435456 unpacked"),
    ],
)
def test_a_wrong_header_is_refused_under_its_id(changes, about):
    with pytest.raises(ProtocolError, match=about) as caught:
        protocol.decode(frames(**changes))
    assert caught.value.request_id == 7
    assert caught.value.code is ErrorCode.PROTOCOL


@pytest.mark.parametrize("change", [-1, -20, 1, 300])
def test_a_pack_of_another_length_is_refused(change):
    data = bytes(mixed().data)
    data = data[:change] if change < 0 else data + bytes(change)
    about = rf"hidden \[7, 10\] in widths \[\[4, 3\], .* is 93 bytes .* the frame has {len(data)}"
    with pytest.raises(ProtocolError, match=about):
        protocol.decode(frames(data))


def test_a_small_frame_does_not_unpack_to_a_large_array():
    """Two bits become thirty-two: the frame is small enough, its unpacked rows are not."""
    rows, size = 4_096, 65_536
    data = bytes(rows * row_bits(size, 2) // 8)
    with pytest.raises(ProtocolError, match="at most 268435456 unpacked"):
        protocol.decode(frames(data, shape=[rows, size], widths=[[2, rows]]))


@pytest.mark.parametrize("width", [1, 7, 9, 12, 24, 64])
def test_a_width_that_is_not_known_has_an_error_of_its_own(width):
    for changes in ({"widths": [[4, 3], [width, 4]]}, {"reply_width": width}):
        about = f"entries of {width} bits are not known here, only of 2, 3, 4, 5, 6, 8, 16, 32"
        with pytest.raises(UnknownWidth, match=about) as caught:
            protocol.decode(frames(**changes))
        assert caught.value.request_id == 7
        failure = protocol.failure_of(caught.value, request_id=7)
        received = protocol.decode(protocol.encode(failure))
        assert received.code is ErrorCode.WIDTH_UNKNOWN
        assert type(protocol.error_of(received)) is UnknownWidth


def test_a_senders_mistake_is_raised_at_the_sender():
    request = protocol.Apply(
        id=1,
        layer=0,
        hidden=rows_of(1),
        pairs=np.zeros((1, 2), np.int32),
        weights=np.ones(1, np.float32),
        reply_width=7,
    )
    with pytest.raises(UnknownWidth, match="reply_width: entries of 7 bits"):
        protocol.encode(request)
    with pytest.raises(ValueError, match="got 7"):
        pack_rows(rows_of(1), 7, rotation="none")


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("rotation", ["none", "hadamard"])
def test_rows_that_are_not_finite_travel_as_float16_and_spoil_no_other(width, rotation):
    rows = rows_of(6)
    rows[1, 3], rows[4, 0], rows[5, 9] = np.nan, np.inf, -np.inf
    pack = pack_rows(rows, width, rotation=rotation)
    assert pack.runs == ((width, 1), (16, 1), (width, 2), (16, 2))
    got = plain(
        protocol.decode(frames(pack.data, shape=[6, D], widths=pack.runs, rotation=rotation)).hidden
    )
    fine = [0, 2, 3]
    np.testing.assert_array_equal(got[fine], round_trip(rows[fine], width, rotation=rotation))
    np.testing.assert_array_equal(got[[1, 4, 5]], rows[[1, 4, 5]].astype(np.float16))


def test_rows_of_which_none_is_finite_are_an_array():
    assert (
        pack_rows(np.full((3, D), np.nan, np.float32), 4, rotation="hadamard").dtype == np.float16
    )


def test_too_many_rows_that_are_not_finite_make_an_array_too():
    rows = rows_of(2 * MAX_RUNS)
    rows[::2] = np.inf
    assert pack_rows(rows, 4, rotation="none").dtype == np.float16
    rows[: MAX_RUNS + 1] = 1.0
    assert len(pack_rows(rows, 4, rotation="none").runs) == MAX_RUNS - 1


def test_messages_of_other_sizes_or_rotations_are_unpacked_one_by_one():
    vectors = [
        pack_rows(rows_of(2), 4, rotation="hadamard"),
        pack_rows(rows_of(3), 8, rotation="none"),
        rows_of(1),
        pack_rows(rows_of(2)[:, :4], 4, rotation="hadamard"),
    ]
    for got, one in zip(plain_all(vectors), vectors, strict=True):
        np.testing.assert_array_equal(got, plain(one))
    assert plain_all([]) == []


def test_the_widths_of_vectors():
    assert row_widths(mixed()) == {3, 4, 16, 32}
    assert row_widths(rows_of(1)) == {32}
    assert row_widths(rows_of(1).astype(np.float16)) == {16}
