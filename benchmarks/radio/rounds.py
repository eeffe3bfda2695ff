"""Rounds of pilot exchanges between a coordinator and its agents, over the real driver stack.

Emulated Plutos on loopback, pyadi-iio and libiio in one process per radio, agents as processes.
Measured: the time of a whole round (all uplinks at once, then every downlink) by the number of
helpers; the delay until the policies' link states show that a link got worse, for one coherence
time; and the error of the sounded gains.
"""

from __future__ import annotations

import argparse
import logging
import random
import statistics
import sys
import tempfile
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from siftmoe.agent.config import AgentConfig
from siftmoe.agent.process.launch import spawn, stop_all
from siftmoe.coordinator.client.requests import Client
from siftmoe.coordinator.config.testbed import load_testbed
from siftmoe.coordinator.fleet.agents import Fleet
from siftmoe.coordinator.sounding.channel import open_channel
from siftmoe.radio.emulator.launch import EmulatedPlutos
from siftmoe.tools.bundles import open_model

if TYPE_CHECKING:
    from collections.abc import Iterator

    from siftmoe.coordinator.sounding.channel import Channel
    from siftmoe.models.bundle.reader import Bundle


@contextmanager
def testbed(
    bundle: Bundle, helpers: int, *, coherence_time_s: float
) -> Iterator[tuple[Channel, EmulatedPlutos, list[object]]]:
    """Yield a channel with so many helpers, its emulator, and the exchanges it books."""
    with ExitStack() as stack:
        plutos = stack.enter_context(EmulatedPlutos(helpers + 1))
        agents = [
            spawn(
                AgentConfig(
                    bundle=str(bundle.root),
                    name=f"a{n}",
                    experts=f"*:{n}",
                    threads=1,
                    radio=plutos.uris[n + 1],
                )
            )
            for n in range(helpers)
        ]
        stack.callback(lambda: stop_all([agent.process for agent in agents]))
        entries = "".join(
            f'[[agent]]\nname = "a{n}"\naddress = "{agent.wait().endpoint}"\n'
            for n, agent in enumerate(agents)
        )
        path = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "testbed.toml"
        path.write_text(
            f'[model]\nbundle = "{bundle.root}"\n'
            f"[radio]\ncoherence_time_s = {coherence_time_s}\n"
            f'[sounding]\nuri = "{plutos.uris[0]}"\n'
            f"{entries}"
        )
        config = load_testbed(path)
        fleet = Fleet(config.agent, shape=bundle.shape, model_hash=bundle.manifest.model_hash)
        client = stack.enter_context(Client(fleet))
        client.connect(timeout_s=60.0)
        booked: list[object] = []
        channel = stack.enter_context(open_channel(config, client, record=booked.append))
        yield channel, plutos, booked


def rounds(bundle: Bundle, helpers: int, count: int) -> None:
    """Print the time of whole rounds and the error of their gains."""
    # A long coherence time never cuts a round short; waiting makes the soundings due.
    with testbed(bundle, helpers, coherence_time_s=2.0) as (channel, plutos, booked):
        times, errors = [], []
        true = [plutos.gain("pluto-0", f"pluto-{n + 1}") for n in range(helpers)]
        for _ in range(count):
            time.sleep(2.05)
            before = len(booked)
            began_s = time.perf_counter()
            channel.links.states(channel.clock.now_s)
            times.append(time.perf_counter() - began_s)
            errors += [
                10.0 * np.log10(row.channel_gain / true[int(row.agent[1:])])
                for row in booked[before:]
            ]
        print(
            f"| {helpers} | {1e3 * statistics.median(times):.0f} ms | {1e3 * max(times):.0f} ms | "
            f"{1e3 * statistics.median(times) / (helpers + 1):.0f} ms | "
            f"{np.sqrt(np.mean(np.square(errors))):.3f} dB | {np.abs(errors).max():.3f} dB |"
        )


def follow(bundle: Bundle, coherence_time_s: float, count: int) -> None:
    """Print the delay until a change of a link is seen."""
    rng = random.Random(3)
    with testbed(bundle, 4, coherence_time_s=coherence_time_s) as (channel, plutos, _):
        delays = []
        for number in range(count):
            end_s = time.perf_counter() + rng.uniform(1.5, 2.5) * coherence_time_s
            while time.perf_counter() < end_s:  # the run continues
                channel.links.states(channel.clock.now_s)
                time.sleep(0.005)
            gain_db = (-90.0, -80.0)[number % 2]
            plutos.set_gain("pluto-0", "pluto-2", gain_db)
            changed_s = time.perf_counter()
            true = plutos.gain("pluto-0", "pluto-2")
            while True:
                states = channel.links.states(channel.clock.now_s)
                if abs(10.0 * np.log10(states.uplink_gain[1] / true)) < 3.0:
                    break
                time.sleep(0.005)
            delays.append(time.perf_counter() - changed_s)
        print(
            f"| {coherence_time_s:g} s | {statistics.median(delays):.2f} s | {max(delays):.2f} s | "
            f"{max(delays) / coherence_time_s:.2f} |"
        )


def main(argv: list[str]) -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=8, help="rounds per number of helpers")
    parser.add_argument("--changes", type=int, default=12, help="changes per coherence time")
    args = parser.parse_args(argv)
    logging.disable(logging.WARNING)
    bundle = open_model("upcycled")
    print(f"Whole rounds, {args.rounds} each; error of the gain against the emulator's:\n")
    print("| helpers | median | longest | per exchange | error, rms | largest |")
    print("|---|---|---|---|---|---|")
    for helpers in (1, 2, 4, 8):
        rounds(bundle, helpers, args.rounds)
    print(f"\nA link of 4 changes by 10 dB, {args.changes} times at random; seen after:\n")
    print("| coherence time | median | longest | longest / coherence time |")
    print("|---|---|---|---|")
    for coherence_time_s in (0.5, 1.0, 2.0):
        follow(bundle, coherence_time_s, args.changes)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
