"""Target of `benchmarks.fuzz.protocol`: an agent's message handling without sockets."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from benchmarks.fuzz.inputs import mutated
from siftmoe.agent.compute.runtime import Runtime
from siftmoe.agent.errors import ProtocolError, WireError
from siftmoe.agent.service.requests import Identity, Job, Service
from siftmoe.agent.service.telemetry import Telemetry
from siftmoe.agent.wire.messages import failure_of
from siftmoe.agent.wire.protocol import Apply, Hello, Sound, Stats, decode, encode
from siftmoe.models.bundle.manifest import Manifest

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Callable
    from pathlib import Path

    import atheris


def agent_end(bundle: Path, counts: Counter[str]) -> Callable[[atheris.FuzzedDataProvider], None]:
    """Handle frames as an agent does, with real experts: decode, answer, encode the answer."""
    residents = [(0, 0), (0, 1), (1, 0)]
    runtime = Runtime.load(Manifest.load(bundle), residents, providers=["cpu"], threads=1)
    service = Service(
        runtime=runtime,
        identity=Identity(name="a0", version="0.1.0", model_hash="0" * 64),
        telemetry=Telemetry(started_s=0.0),
        clock=time.monotonic,
    )

    def answer(frames: list[bytes]) -> list[Any]:
        try:
            message = decode(frames)
        except ProtocolError as error:
            counts["no message"] += 1
            return [failure_of(error, request_id=error.request_id)]
        counts[type(message).__name__] += 1
        try:
            if isinstance(message, Apply):
                job = Job(request=message, arrived_s=time.monotonic(), peer=b"peer")
                answers = [reply for some in service.compute([job]) for _, reply in some]
                if len(answers) != 1:
                    raise RuntimeError(f"{len(answers)} answers to one request")
                return answers
            if isinstance(message, Hello | Stats):
                return [service.reply(message, waiting={})]
            if isinstance(message, Sound):
                service.sound(message, lambda _: None)
        except WireError as error:
            return [failure_of(error, request_id=message.id)]
        return []

    def run(data: atheris.FuzzedDataProvider) -> None:
        for reply in answer(mutated(data)):
            decode(encode(reply))

    return run
