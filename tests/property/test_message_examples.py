"""The seed examples of fuzzing are valid and cover every kind and dtype."""

from __future__ import annotations

from typing import get_args

import pytest
from message_examples import EXAMPLES

from siftmoe.agent.wire.bounds import DTypeName
from siftmoe.agent.wire.packed import Packed
from siftmoe.agent.wire.protocol import Apply, Message, Result, decode, encode


def test_no_kind_of_message_is_missing() -> None:
    assert {type(example) for example in EXAMPLES} == set(get_args(Message))


def test_no_dtype_is_missing() -> None:
    for kind, array in ((Apply, "hidden"), (Result, "output")):
        vectors = [getattr(e, array) for e in EXAMPLES if isinstance(e, kind)]
        found = {"packed" if isinstance(v, Packed) else str(v.dtype) for v in vectors}
        assert found == {*get_args(DTypeName), "packed"}


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda e: type(e).__name__)
def test_each_is_decoded_as_what_it_is(example: Message) -> None:
    assert type(decode(encode(example))) is type(example)
