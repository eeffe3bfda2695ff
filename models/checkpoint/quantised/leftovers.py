"""Tensors that quantised releases hold beside their weights and that no weight depends on."""

from __future__ import annotations

import re

#: Scales and zero points of activations and of key and value caches. With weights in float32,
#: activations and caches are not quantised, so nothing is lost without them.
_HARMLESS = re.compile(
    r"""(^|[._])(
        (input|output|activation|act)_(global_)?scale(_inv)? | (input|output)_zero_point
      | (q|k|v|kv|qk|kv_cache|prob|p)_scale | (q|k|v|kv)_zero_point
      | qscale_act
    )$""",
    re.VERBOSE,
)


def is_harmless(name: str) -> bool:
    """Whether a tensor describes activations or caches, by its name; no weight depends on it."""
    return _HARMLESS.search(name) is not None
