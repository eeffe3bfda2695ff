import pickle

import msgpack
import numpy as np
import pytest

from siftmoe.agent.errors import ErrorCode, ProtocolError
from siftmoe.agent.wire import protocol


def apply(*, rows=3, width=4, dtype=np.float32, pairs=((0, 1), (2, 0)), weights=None, **fields):
    pairs = np.array(pairs, np.int32)
    weights = np.ones(len(pairs)) if weights is None else weights
    hidden = np.arange(rows * width).reshape(rows, width).astype(dtype)
    return protocol.Apply(
        id=7,
        layer=1,
        hidden=hidden,
        pairs=pairs,
        weights=np.array(weights, np.float32),
        **fields,
    )


def header(**changes):
    """Header of a good request with some keys changed; a key set to None is left out."""
    plain = {"v": 1, "id": 7, "kind": "apply", "layer": 1, "dtype": "float32", "shape": [1, 2]}
    return msgpack.packb({k: v for k, v in {**plain, **changes}.items() if v is not None})


PAYLOAD = [np.zeros((1, 2), "<f4").tobytes(), np.zeros((1, 2), "<i4").tobytes(), b"\0\0\x80\x3f"]


def refused(frames, *, about, request_id=7):
    with pytest.raises(ProtocolError, match=about) as caught:
        protocol.decode(frames)
    assert caught.value.request_id == request_id


def test_the_frames_are_those_of_the_table():
    request = apply(deadline_s=0.25)
    first, hidden, pairs, weights = protocol.encode(request)
    assert msgpack.unpackb(first) == {
        "v": 1,
        "id": 7,
        "kind": "apply",
        "layer": 1,
        "dtype": "float32",
        "shape": [3, 4],
        "deadline_ms": 250.0,
    }
    assert bytes(hidden) == request.hidden.astype("<f4").tobytes()
    assert bytes(pairs) == request.pairs.astype("<i4").tobytes()
    assert bytes(weights) == request.weights.astype("<f4").tobytes()


def test_a_header_of_another_implementation_is_read():
    request = protocol.decode([header(), *PAYLOAD])
    assert request.hidden.shape == (1, 2)
    assert request.weights.tolist() == [1.0]
    assert request.deadline_s is None


def test_hello_and_its_reply_have_the_same_kind():
    hello = protocol.Hello(id=1)
    reply = protocol.HelloReply(
        id=1,
        name="a",
        version="1",
        model_hash="ab",
        residents=((0, 1),),
        provider="CPUExecutionProvider",
        hidden_size=16,
    )
    sent = msgpack.unpackb(protocol.encode(reply)[0])
    assert sent["kind"] == msgpack.unpackb(protocol.encode(hello)[0])["kind"] == "hello"
    assert sent["d"] == 16
    assert protocol.decode(protocol.encode(hello)) == hello
    assert protocol.decode(protocol.encode(reply)) == reply


def test_large_arrays_are_not_copied():
    request = apply(rows=64, width=512)
    frames = protocol.encode(request)
    assert np.shares_memory(np.frombuffer(frames[1], np.float32), request.hidden)
    received = protocol.decode(frames)
    assert np.shares_memory(received.hidden, request.hidden)


def test_a_slice_of_an_array_is_sent_in_its_own_order():
    for width in (4, 40_000):
        whole = np.arange(3 * width, dtype=np.float32).reshape(3, width)
        result = protocol.Result(id=1, output=whole[:, ::2], compute_s=0.0, queue_s=0.0)
        received = protocol.decode(protocol.encode(result))
        np.testing.assert_array_equal(received.output, whole[:, ::2])


def test_a_hidden_row_that_is_not_finite_passes():
    request = apply()
    request.hidden[1] = np.nan
    received = protocol.decode(protocol.encode(request))
    assert np.isnan(received.hidden[1]).all()
    assert np.isfinite(received.hidden[[0, 2]]).all()


@pytest.mark.parametrize("count", [2, 200])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_weight_that_is_not_finite_is_refused(count, bad):
    weights = np.full(count, 1e38)
    weights[-1] = bad
    request = apply(pairs=[(0, e) for e in range(count)], weights=weights)
    refused(protocol.encode(request), about="weights must be finite")


@pytest.mark.parametrize("count", [1, 200])
@pytest.mark.parametrize("bad", [(3, 0), (-1, 0), (0, -1), (0, 1 << 16)])
def test_a_pair_out_of_bounds_is_refused(count, bad):
    request = apply(pairs=[*[(0, e) for e in range(count)], bad])
    refused(protocol.encode(request), about="0 <= row < 3")


@pytest.mark.parametrize(
    ("frames", "about"),
    [
        ([header(v=2), *PAYLOAD], "version 2, this end speaks 1"),
        ([header(kind="dance"), *PAYLOAD], "unknown kind 'dance', known: hello"),
        ([header(dtype="int8"), *PAYLOAD], "dtype"),
        ([header(layer=-1), *PAYLOAD], "layer"),
        ([header(layer=None), *PAYLOAD], "layer"),
        ([header(shape=[0, 2]), *PAYLOAD], "shape"),
        ([header(shape=[1, 2, 1]), *PAYLOAD], "shape"),
        ([header(shape=[65_536, 65_536]), *PAYLOAD], "at most 268435456"),
        ([header(shape=[1, 3]), *PAYLOAD], r"\[1, 3\] float32 is 12 bytes .* the frame has 8"),
        ([header(deadline_ms=-1.0), *PAYLOAD], "deadline_ms"),
        ([header(deadline_ms=float("nan")), *PAYLOAD], "deadline_ms"),
        ([header(), *PAYLOAD[:2]], "3 frames follow"),
        ([header(), *PAYLOAD, b""], "3 frames follow"),
        ([header(), PAYLOAD[0], PAYLOAD[1][:7], PAYLOAD[2]], "pairs are int32"),
        ([header(), PAYLOAD[0], b"", b""], "pairs are int32"),
        ([header(), *PAYLOAD[:2], b""], "weights are float32"),
        ([header(kind="hello"), b"x"], "0 frames follow"),
    ],
)
def test_a_wrong_request_is_refused_under_its_id(frames, about):
    refused(frames, about=about)


@pytest.mark.parametrize(
    "first",
    [
        b"",
        b"GET / HTTP/1.1\r\nHost: agent\r\n\r\n",
        pickle.dumps({"v": 1, "id": 1, "kind": "hello"}),
        b'{"v": 1, "id": 1, "kind": "hello"}',
        msgpack.packb([1, 2, 3]),
        msgpack.packb({1: 2}),
        header(id=-1),
        header(id="7"),
        header(v=None),
        b"\x91" * 100_000,
        b"\xdf\xff\xff\xff\xff",
        b"\x82\xa1v\x01\xa2id\xdd\xff\xff\xff\xff",
    ],
)
def test_what_is_no_header_is_refused(first):
    refused([first], about="header", request_id=0)


def test_a_header_has_a_largest_size():
    refused([header(extra="x" * (1 << 20))], about="header of 104", request_id=0)
    refused([], about="at least one frame", request_id=0)


def test_a_failure_keeps_its_code():
    failure = protocol.Failure(id=3, code=ErrorCode.BUSY, message="256 wait")
    assert protocol.decode(protocol.encode(failure)) == failure


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"dtype": np.float64}, TypeError),
        ({"rows": 0}, ValueError),
        ({"pairs": ((0, 1, 2),)}, ValueError),
        ({"weights": [1.0]}, ValueError),
    ],
)
def test_a_senders_mistake_is_raised_at_the_sender(changes, error):
    with pytest.raises(error, match=r"hidden|pairs"):
        protocol.encode(apply(**changes))


def test_an_id_has_64_bits():
    with pytest.raises(ValueError, match="64 bit"):
        protocol.encode(protocol.Hello(id=2**64))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_a_figure_that_is_not_finite_is_refused(value):
    reply = {"v": 1, "id": 7, "kind": "stats", "counters": {"rows": 1.0}, "power_w": {"a": value}}
    refused([msgpack.packb(reply)], about="figure 'a' is")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -1.0])
@pytest.mark.parametrize("field", ["compute_s", "queue_s"])
def test_a_time_that_is_none_is_refused(field, value):
    reply = {"v": 1, "id": 7, "kind": "result", "dtype": "float32", "shape": [1, 2]}
    frames = [msgpack.packb({**reply, "compute_s": 0.5, "queue_s": 0.0, field: value}), PAYLOAD[0]]
    refused(frames, about=rf"Expected `float` .* at `\$\.{field}`")
