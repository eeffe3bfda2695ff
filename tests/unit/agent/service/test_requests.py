from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from bundles import reference, shape_of, write_bundle

from siftmoe.agent.compute.runtime import Runtime
from siftmoe.agent.errors import ErrorCode, NotSupported, UnknownWidth
from siftmoe.agent.service import requests as service
from siftmoe.agent.service.requests import Identity, Job, Service
from siftmoe.agent.service.telemetry import Telemetry
from siftmoe.agent.wire import protocol
from siftmoe.models.bundle.manifest import Manifest

SHAPE = shape_of()


class Clock:
    """Seconds that go on only when told to."""

    now_s = 100.0

    def __call__(self):
        return self.now_s


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_bundle(tmp_path_factory.mktemp("bundle") / "plain", SHAPE)


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def host(folder, clock):
    residents = [(0, 0), (0, 1), (1, 2)]
    runtime = Runtime.load(Manifest.load(folder), residents, providers=["cpu"], threads=1)
    return Service(
        runtime=runtime,
        identity=Identity(name="board", version="1.2", model_hash="ab" * 32),
        telemetry=Telemetry(started_s=0.0),
        clock=clock,
    )


def job(number, *, layer=0, expert=0, rows=1, width=16, dtype=np.float32, bits=None, **options):
    hidden = np.random.default_rng(number).standard_normal((rows, width)).astype(dtype)
    if bits is not None:
        hidden = protocol.pack_rows(hidden, bits, rotation="hadamard")
    request = protocol.Apply(
        id=number,
        layer=layer,
        hidden=hidden,
        pairs=np.array([(row, expert) for row in range(rows)], np.int32),
        weights=np.full(rows, 2.0, np.float32),
        deadline_s=options.get("deadline_s"),
        reply_width=options.get("reply_width"),
        reply_rotation="hadamard",
    )
    return Job(request=request, arrived_s=options.get("arrived_s", 100.0), peer=b"p")


def answers(host, *jobs):
    """{id: reply}; every job is answered exactly once."""
    pairs = [pair for some in host.compute(jobs) for pair in some]
    assert sorted(job.request.id for job, _ in pairs) == sorted(j.request.id for j in jobs)
    assert all(job.request.id == reply.id for job, reply in pairs)
    return {reply.id: reply for _, reply in pairs}


def check(reply, job, expert):
    hidden = protocol.plain(job.request.hidden).astype(np.float64)
    wanted = 2.0 * reference(SHAPE, job.request.layer, expert, hidden)
    np.testing.assert_allclose(reply.output, wanted, atol=1e-5)


def counted_runs(host):
    """Count the runs of each expert without changing them."""
    counts = {}
    for key, expert in host.runtime.experts.items():

        def run(names, feed, session=expert.session, key=key):
            counts[key] = counts.get(key, 0) + 1
            return session.run(names, feed)

        host.runtime.experts[key] = SimpleNamespace(session=SimpleNamespace(run=run))
    return counts


def test_requests_of_a_layer_are_one_run_per_expert(host):
    counts = counted_runs(host)
    jobs = [job(n, expert=n % 2, rows=1 + n % 3) for n in range(6)]
    jobs += [job(6, layer=1, expert=2)]
    replies = answers(host, *jobs)
    assert counts == {(0, 0): 1, (0, 1): 1, (1, 2): 1}
    for one in jobs:
        check(replies[one.request.id], one, one.request.pairs[0, 1])


def test_a_batch_equals_its_requests_alone(host):
    jobs = [job(n, expert=n % 2, rows=2) for n in range(4)]
    together = answers(host, *jobs)
    for one in jobs:
        alone = answers(host, one)[one.request.id]
        np.testing.assert_allclose(together[alone.id].output, alone.output, atol=1e-6)


def test_the_answer_has_the_dtype_of_the_question(host):
    jobs = [job(1, dtype=np.float16), job(2), job(3, dtype=np.float16, expert=1)]
    for group in (jobs, jobs[:1]):
        for number, reply in answers(host, *group).items():
            assert reply.output.dtype == (np.float32 if number == 2 else np.float16)


def test_large_batches_are_split(host, monkeypatch):
    monkeypatch.setattr(service, "MAX_BATCH_ROWS", 5)
    counts = counted_runs(host)
    answers(host, *(job(n, rows=2) for n in range(5)), job(5, rows=9))
    assert counts == {(0, 0): 4}


def test_a_passed_deadline_is_answered_and_not_computed(host, clock):
    counts = counted_runs(host)
    jobs = [job(1, deadline_s=0.010), job(2, deadline_s=0.050), job(3), job(4, deadline_s=0.0)]
    clock.now_s += 0.020
    replies = answers(host, *jobs)
    assert replies[1].code is replies[4].code is ErrorCode.DEADLINE_EXCEEDED
    assert "agent 'board': waited 20.0 ms, the deadline was 10.0 ms" in replies[1].message
    check(replies[2], jobs[1], 0)
    check(replies[3], jobs[2], 0)
    assert counts == {(0, 0): 1}
    assert replies[2].queue_s == pytest.approx(0.020)


def test_a_bad_request_does_not_harm_its_neighbours(host):
    jobs = [job(1), job(2, expert=2), job(3, width=15), job(4, layer=9)]
    replies = answers(host, *jobs)
    check(replies[1], jobs[0], 0)
    assert replies[2].code is replies[4].code is ErrorCode.EXPERT_NOT_RESIDENT
    assert replies[3].code is ErrorCode.SHAPE_MISMATCH


@pytest.mark.parametrize(
    ("problem", "code"),
    [
        (RuntimeError("the kernel fell over"), ErrorCode.INTERNAL),
        (RuntimeError("Failed to allocate memory for requested buffer"), ErrorCode.OUT_OF_MEMORY),
        (MemoryError(), ErrorCode.OUT_OF_MEMORY),
    ],
)
def test_a_failing_expert_is_answered_and_the_others_go_on(host, problem, code, caplog):
    def fail(names, feed):
        raise problem

    host.runtime.experts[0, 1] = SimpleNamespace(session=SimpleNamespace(run=fail))
    jobs = [job(1), job(2, expert=1)]
    replies = answers(host, *jobs)
    check(replies[1], jobs[0], 0)
    assert replies[2].code is code
    assert ("Traceback" in caplog.text) == (code is ErrorCode.INTERNAL)


def test_hello_tells_who_it_is(host):
    reply = host.reply(protocol.Hello(id=5), waiting={})
    assert (reply.id, reply.name, reply.version) == (5, "board", "1.2")
    assert reply.residents == ((0, 0), (0, 1), (1, 2))
    assert reply.provider == "CPUExecutionProvider"
    assert reply.hidden_size == 16
    assert protocol.decode(protocol.encode(reply)) == reply


def test_stats_count_what_was_done(host, clock):
    answers(host, job(1, rows=3), job(2, rows=2, expert=2))
    clock.now_s += 5.0
    reply = host.reply(protocol.Stats(id=6), waiting={"queued": 4.0})
    assert reply.counters["served"] == 1
    assert reply.counters["rows"] == 3
    assert reply.counters["batches"] == 1
    assert reply.counters["compute_s"] == 0.0
    assert reply.counters["refused"] == 1
    assert reply.counters["queued"] == 4
    assert reply.counters["uptime_s"] == 105.0
    assert protocol.decode(protocol.encode(reply)) == reply


def test_an_agent_without_a_radio_says_so(host):
    burst = protocol.Burst(
        carrier_hz=2.4e9, sample_rate_hz=2e6, tx_attenuation_db=10.0, rx_gain_db=30.0
    )
    request = protocol.Sound(id=7, role="listen", duration_s=0.1, burst=burst)
    with pytest.raises(NotSupported, match=r"has no radio.*--radio"):
        host.sound(request, pytest.fail)


def test_packed_rows_are_unpacked_and_answered_as_they_are_wanted(host):
    asked = [
        job(1, rows=3, bits=8),
        job(2, rows=2, bits=4, reply_width=32),
        job(3, rows=2, dtype=np.float16, reply_width=8),
        job(4, rows=1, reply_width=6),
    ]
    wanted = {1: 16, 2: 32, 3: 8, 4: 6}
    together = answers(host, *asked)  # one batch
    for one in asked:
        (alone,) = answers(host, one).values()
        for reply in (alone, together[one.request.id]):
            output = protocol.plain(reply.output).astype(np.float64)
            exact = 2.0 * reference(
                SHAPE, 0, 0, protocol.plain(one.request.hidden).astype(np.float64)
            )
            error = np.abs(output - exact).max() / np.abs(exact).max()
            assert error < {32: 1e-5, 16: 1e-3, 8: 2e-2, 6: 8e-2}[wanted[reply.id]]
            is_packed = wanted[reply.id] < 16
            assert isinstance(reply.output, protocol.Packed) == is_packed
            if is_packed:
                assert reply.output.runs == ((wanted[reply.id], len(exact)),)
                assert reply.output.rotation == "hadamard"


def test_packed_rows_of_another_size_are_refused_before_they_are_unpacked(host):
    (reply,) = answers(host, job(1, width=24, bits=4)).values()
    assert reply.code is ErrorCode.SHAPE_MISMATCH


def test_an_answer_that_overflowed_stays_its_rows_own_problem(host):
    one = job(1, rows=3, reply_width=4)
    one.request.hidden[1] = np.inf
    (reply,) = answers(host, one).values()
    assert reply.output.runs == ((4, 1), (16, 1), (4, 1))
    finite = np.isfinite(protocol.plain(reply.output)).all(axis=1)
    assert finite.tolist() == [True, False, True]


def test_widths_that_it_does_not_know_are_not_admitted(host):
    host.admit(job(1, bits=3, reply_width=2).request)
    old = replace(host, widths=(16, 32))
    assert old.reply(protocol.Hello(id=1), waiting={}).widths == (16, 32)
    old.admit(job(1, dtype=np.float16, reply_width=32).request)
    for request in (job(1, bits=8).request, job(1, reply_width=8).request):
        with pytest.raises(UnknownWidth, match="agent 'board': entries of 8 bits are not known"):
            old.admit(request)
