"""Results that are not finite are refused by the agent, with the expert, the layer and the row."""

from types import SimpleNamespace

import numpy as np
import pytest
from bundles import reference, shape_of, write_bundle

from siftmoe.agent.compute.runtime import Runtime
from siftmoe.agent.errors import ErrorCode
from siftmoe.agent.service.requests import Identity, Job, Service
from siftmoe.agent.service.telemetry import Telemetry
from siftmoe.agent.wire import protocol
from siftmoe.models.bundle.manifest import Manifest

SHAPE = shape_of()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_bundle(tmp_path_factory.mktemp("bundle") / "plain", SHAPE)


@pytest.fixture
def host(folder):
    runtime = Runtime.load(
        Manifest.load(folder), [(1, 0), (1, 1), (1, 2)], providers=["cpu"], threads=1
    )
    return Service(
        runtime=runtime,
        identity=Identity(name="board", version="1", model_hash="ab"),
        telemetry=Telemetry(started_s=0.0),
        clock=lambda: 100.0,
    )


def spoil(host, expert, value):
    """Let an expert compute a value in its rows' first entries."""
    session = host.runtime.experts[1, expert].session

    def run(names, feed):
        (output,) = session.run(names, feed)
        output[:, 0] = value
        return [output]

    host.runtime.experts[1, expert] = SimpleNamespace(session=SimpleNamespace(run=run))


def job(number, pairs, *, rows=3, bits=None, **options):
    hidden = np.random.default_rng(number).standard_normal((rows, 16)).astype(np.float32)
    if bits is not None:
        hidden = protocol.pack_rows(hidden, bits, rotation="hadamard")
    request = protocol.Apply(
        id=number,
        layer=1,
        hidden=hidden,
        pairs=np.array(pairs, np.int32),
        weights=np.full(len(pairs), 0.5, np.float32),
        **options,
    )
    return Job(request=request, arrived_s=99.0, peer=b"p")


def answers(host, *jobs):
    return {reply.id: reply for some in host.compute(jobs) for _, reply in some}


@pytest.mark.parametrize(
    ("value", "word"), [(np.nan, "NaN"), (np.inf, "infinity"), (-np.inf, "infinity")]
)
@pytest.mark.parametrize("options", [{}, {"bits": 8, "reply_width": 8}, {"reply_width": 16}])
def test_the_expert_is_named(host, value, word, options):
    spoil(host, 2, value)
    reply = answers(host, job(7, [(0, 0), (1, 2), (2, 1)], **options))[7]
    assert reply.code is ErrorCode.NOT_FINITE
    assert reply.message.startswith(
        f"agent 'board': expert 2 of layer 1 computes {word} from the finite row 1; "
    )
    counters = host.telemetry.figures(now_s=0.0, waiting={})
    assert counters["failed"] == 1
    assert "served" not in counters


def test_other_requests_of_the_batch_are_served(host):
    spoil(host, 2, np.nan)
    good = job(1, [(0, 0), (2, 1)])
    replies = answers(host, good, job(2, [(0, 2)]), job(3, [(1, 0), (1, 2)]))
    assert replies[2].code is replies[3].code is ErrorCode.NOT_FINITE
    hidden = good.request.hidden.astype(np.float64)
    wanted = np.zeros((3, 16))
    wanted[0] = 0.5 * reference(SHAPE, 1, 0, hidden[:1])[0]
    wanted[2] = 0.5 * reference(SHAPE, 1, 1, hidden[2:])[0]
    np.testing.assert_allclose(replies[1].output, wanted, atol=1e-5)


def test_a_row_that_arrives_so_is_computed_as_it_is(host):
    one = job(1, [(0, 0), (1, 0)])
    one.request.hidden[0] = np.inf
    with np.errstate(all="ignore"):
        output = answers(host, one)[1].output
    assert not np.isfinite(output[0]).any()
    assert np.isfinite(output[1:]).all()


def test_large_results_pass_where_they_fit(host):
    spoil(host, 0, 1e30)
    pairs = [(0, 0), (1, 1)]
    assert answers(host, job(1, pairs))[1].output[0, 0] == np.float32(5e29)
    narrow = answers(host, job(2, pairs, reply_width=16))[2]
    assert narrow.code is ErrorCode.NOT_FINITE
    assert "layer 1: the result of row 0 is beyond 65504" in narrow.message
    assert "ask for a reply of 32 bits" in narrow.message


def test_a_sum_that_overflows_is_named_by_its_row(host):
    spoil(host, 0, 3e38)
    spoil(host, 1, 3e38)
    one = job(1, [(2, 0), (2, 1)])
    one.request.weights[:] = 1.0
    with np.errstate(all="ignore"):
        reply = answers(host, one)[1]
    assert reply.code is ErrorCode.NOT_FINITE
    assert "layer 1: the weighted sum of row 2 is not finite" in reply.message
