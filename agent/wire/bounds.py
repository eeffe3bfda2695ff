"""Bounds of the fields of a header, as types that msgspec checks.

Each bound is far above what is used and far below what does harm: a header for the largest
published models (61 layers of 384 experts on one agent) is 130 KB.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal

from msgspec import Meta

#: Version of the protocol; a peer that speaks another is answered with an error.
VERSION: Final = 1

MAX_HEADER_BYTES: Final = 512 * 1024
MAX_RESIDENTS: Final = 65_536
MAX_LAYERS: Final = 4_096
MAX_EXPERTS: Final = 65_536
MAX_ROWS: Final = 65_536
MAX_HIDDEN_SIZE: Final = 65_536
MAX_PAIRS: Final = 1 << 20
#: The largest payload frame; also the socket's limit, so that a larger one is never received.
MAX_FRAME_BYTES: Final = 256 * 1024 * 1024
MAX_TEXT: Final = 4_096
#: Most runs of equally wide rows in one message. A coordinator sorts its rows by width and needs
#: one run for each; an agent may have to send single rows of an answer in float16.
MAX_RUNS: Final = 256
#: 30,000 years in seconds, 30 in milliseconds; sums of it stay finite.
MAX_DURATION: Final = 1e12
#: Largest width that a header may name; which widths exist is checked later.
MAX_WIDTH: Final = 64

Version = Literal[1]
RequestId = Annotated[int, Meta(ge=0)]
Layer = Annotated[int, Meta(ge=0, lt=MAX_LAYERS)]
Expert = Annotated[int, Meta(ge=0, lt=MAX_EXPERTS)]
Text = Annotated[str, Meta(max_length=MAX_TEXT)]
#: A finite time in s or ms.
Duration = Annotated[float, Meta(ge=0, le=MAX_DURATION)]
Figures = Annotated[dict[Text, float], Meta(max_length=1_024)]
Shape = tuple[
    Annotated[int, Meta(ge=1, le=MAX_ROWS)], Annotated[int, Meta(ge=1, le=MAX_HIDDEN_SIZE)]
]
DTypeName = Literal["float32", "float16"]
VectorsName = Literal["float32", "float16", "packed"]
Width = Annotated[int, Meta(ge=1, le=MAX_WIDTH)]
Runs = Annotated[
    tuple[tuple[Width, Annotated[int, Meta(ge=1, le=MAX_ROWS)]], ...],
    Meta(min_length=1, max_length=MAX_RUNS),
]


def frame_limit(hidden_size: int) -> int:
    """Return the largest frame, in bytes, that requests to a model of this hidden size can have."""
    pairs_bytes, rows_bytes = 8 * MAX_PAIRS, 4 * MAX_ROWS * hidden_size
    return min(MAX_FRAME_BYTES, max(MAX_HEADER_BYTES, pairs_bytes, rows_bytes))
