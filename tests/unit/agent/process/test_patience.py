"""Time limits that are extended by the time that a process waits for a processor."""

import os
import subprocess
import sys
import time

import pytest

from siftmoe.agent.process.patience import MOST_TIMES, Patience, run_delay_s


class World:
    def __init__(self):
        self.now_s, self.delay_s = 50.0, 7.0

    def patience(self, limit_s):
        return Patience(1, limit_s, delay=lambda _: self.delay_s, clock=lambda: self.now_s)


def test_a_process_that_hangs_gets_the_plain_limit():
    world = World()
    patience = world.patience(2.0)
    assert patience.left_s() == 2.0
    world.now_s += 1.5
    assert patience.left_s() == 0.5
    world.now_s += 1.0
    assert patience.left_s() == 0.0


def test_the_limit_does_not_run_while_it_waits_for_a_processor():
    world = World()
    patience = world.patience(2.0)
    world.now_s += 10.0
    world.delay_s += 9.0
    assert patience.left_s() == pytest.approx(1.0)


def test_it_is_not_extended_without_end():
    world = World()
    patience = world.patience(2.0)
    world.delay_s += 1e6
    assert patience.left_s() == 2.0 * MOST_TIMES


def test_a_process_that_is_gone_has_no_delay():
    assert run_delay_s(2**22 + 1) == 0.0


def test_waiting_for_a_processor_is_counted():
    """Two processes share one processor, so each of them waits."""
    busy = [sys.executable, "-c", "while True: pass"]
    core = min(os.sched_getaffinity(0))
    pair = [subprocess.Popen(["taskset", "-c", str(core), *busy]) for _ in range(2)]
    try:
        end_s = time.monotonic() + 30.0
        while not all(run_delay_s(process.pid) > 0.05 for process in pair):
            assert time.monotonic() < end_s
            time.sleep(0.02)
    finally:
        for process in pair:
            process.kill()
            process.wait()
