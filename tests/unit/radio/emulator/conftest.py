"""Emulated Plutos on an air whose clock the test advances; no sockets, no waiting."""

from __future__ import annotations

import numpy as np
import pytest

from siftmoe.radio.channel.multipath import AirPath
from siftmoe.radio.emulator.device.identity import Identity
from siftmoe.radio.emulator.device.medium import Medium
from siftmoe.radio.emulator.device.pluto import EmulatedPluto
from siftmoe.radio.emulator.iiod.session import Session
from siftmoe.radio.simulated.air import Air
from siftmoe.radio.simulated.front_end import DeviceModel

RATE_HZ = 2e6


class Bench:
    """Two Plutos, ``a`` and ``b``; ``sleep`` advances the clock."""

    def __init__(self, gain: float = 1e-6) -> None:
        self.now_s = 0.0
        self.air = Air({"a": DeviceModel(), "b": DeviceModel()}, sample_rate_hz=RATE_HZ, seed=4)
        for pair in (("a", "b"), ("b", "a")):
            self.air.connect(*pair, AirPath(gain=gain))
        self.medium = Medium(self.air, clock=lambda: self.now_s, sleep=self.sleep)
        self.plutos = {
            name: EmulatedPluto(
                self.medium,
                Identity(name=name, serial=f"104{name}"),
                rng=np.random.default_rng(index),
            )
            for index, name in enumerate(("a", "b"))
        }

    def sleep(self, duration_s: float) -> None:
        # a float's clock may round the last sample away
        self.now_s += duration_s + 1e-9

    def session(self, name: str = "a") -> Session:
        return Session(self.plutos[name], alive=lambda: True)

    def ask(self, name: str, commands: bytes) -> bytes:
        session = self.session(name)
        try:
            return b"".join(session.receive(commands))
        finally:
            session.close()

    def write(self, name: str, where: str, value: str) -> bytes:
        return self.ask(name, f"WRITE {where} {len(value)}\r\n{value}".encode())

    def read(self, name: str, where: str) -> str:
        reply = self.ask(name, f"READ {where}\r\n".encode())
        size, _, rest = reply.partition(b"\n")
        assert int(size) == len(rest) - 1, reply
        return rest[:-2].decode()


@pytest.fixture
def bench() -> Bench:
    return Bench()


@pytest.fixture(scope="session")
def bench_factory() -> type[Bench]:
    return Bench
