"""Inputs of `benchmarks.fuzz.protocol`: raw frames, and mutated valid messages.

In a valid message bytes are flipped, cut and inserted, frames dropped, swapped and added, and keys
of the header, or of a map in it, get other values.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any, Final

import msgpack
import msgspec

from siftmoe.agent.wire.protocol import encode
from tests.message_examples import EXAMPLES

if TYPE_CHECKING:
    import atheris

_MOST_FRAMES: Final = 5


def mutated(data: atheris.FuzzedDataProvider, *, request_id: int | None = None) -> list[bytes]:
    """Return frames that a peer may send; ``request_id`` makes a message answer a request."""
    if data.ConsumeIntInRange(0, 7) == 0:
        count = data.ConsumeIntInRange(0, _MOST_FRAMES)
        return [data.ConsumeBytes(data.ConsumeIntInRange(0, 200)) for _ in range(count)]
    example = EXAMPLES[data.ConsumeIntInRange(0, len(EXAMPLES) - 1)]
    if request_id is not None and data.ConsumeIntInRange(0, 7):
        example = msgspec.structs.replace(example, id=request_id)
    frames = [bytearray(frame) for frame in encode(example)]
    for _ in range(data.ConsumeIntInRange(0, 4)):
        _mutate(data, frames)
    return [bytes(frame) for frame in frames]


def _mutate(data: atheris.FuzzedDataProvider, frames: list[bytearray]) -> None:
    if not frames:
        return
    place = data.ConsumeIntInRange(0, len(frames) - 1)
    frame = frames[place]
    at = data.ConsumeIntInRange(0, len(frame))
    change = data.ConsumeIntInRange(0, 7)
    if change == 0 and at < len(frame):
        frame[at] ^= 1 << data.ConsumeIntInRange(0, 7)
    elif change == 1:
        del frame[at:]
    elif change == 2:
        frame[at:at] = data.ConsumeBytes(data.ConsumeIntInRange(0, 9))
    elif change == 3:
        del frames[place]
    elif change == 4:
        frames[0], frames[place] = frames[place], frames[0]
    elif change == 5:
        frames.append(bytearray(data.ConsumeBytes(data.ConsumeIntInRange(0, 9))))
    else:
        _change_key(data, frames)


def _change_key(data: atheris.FuzzedDataProvider, frames: list[bytearray]) -> None:
    """Give a key of the header, or of a map in it, another value."""
    with contextlib.suppress(Exception):  # the header is already invalid
        header = inner = msgpack.unpackb(bytes(frames[0]), strict_map_key=False)
        for _ in range(3):
            key = sorted(inner, key=str)[data.ConsumeIntInRange(0, len(inner) - 1)]
            if not isinstance(inner[key], dict) or not inner[key]:
                break
            inner = inner[key]
        inner[key] = _value(data)
        frames[0] = bytearray(msgpack.packb(header))


def _value(data: atheris.FuzzedDataProvider) -> Any:
    kind = data.ConsumeIntInRange(0, 9)
    if kind == 0:
        return data.ConsumeInt(8)
    if kind == 1:
        return data.ConsumeFloat()
    if kind == 2:
        return data.ConsumeUnicode(20)
    if kind == 3:
        return data.ConsumeBytes(20)
    if kind == 4:
        return [data.ConsumeIntInRange(-2, 70_000) for _ in range(data.ConsumeIntInRange(0, 3))]
    if kind == 5:
        return {data.ConsumeUnicode(4): data.ConsumeFloat()}
    return [None, True, float("nan"), float("inf")][kind - 6]
