"""What the configurations beside a checkpoint say about its quantisation.

Tensors come first. A hint is used where tensors leave a choice, as the size of blocks whose number
is rounded up, and only if it fits their shapes. Hints may be missing, left over, or in other files.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from siftmoe.models.checkpoint.files import QUANTISATION_FILES

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

#: Keys of config.json that hold a quantisation; nested ones are found too.
CONFIG_KEYS = ("quantization_config", "compression_config")


@dataclass(frozen=True, slots=True, kw_only=True)
class Hints:
    """Hints of all configurations of a folder.

    Parameters
    ----------
    blocks : tuple of (int, int)
        Rows and columns that share a scale.
    groups : tuple of int
        Inputs of a channel that share a scale.
    formats : frozenset of str
        Names of methods and formats in lower case, as "gptq_v2" and "gemm".
    """

    blocks: tuple[tuple[int, int], ...] = ()
    groups: tuple[int, ...] = ()
    formats: frozenset[str] = frozenset()

    @classmethod
    def read(cls, root: Path, config: dict[str, Any]) -> Hints:
        """Collect the hints of ``config.json`` and of the files of quantisation tools."""
        found = [*_sections(config), *_tool_files(root)]
        values = [pair for section in found for pair in _pairs(section)]
        return cls(
            blocks=tuple(
                (int(value[0]), int(value[1]))
                for key, value in values
                if key in ("weight_block_size", "block_structure") and _is_block(value)
            ),
            groups=tuple(
                value
                for key, value in values
                if key in ("group_size", "q_group_size") and _is_size(value)
            ),
            formats=frozenset(
                value.lower()
                for key, value in values
                if key in ("quant_method", "checkpoint_format", "version", "format")
                and isinstance(value, str)
            ),
        )


def drop_hints(config: dict[str, Any]) -> dict[str, Any]:
    """Return a configuration without its quantisation, for weights that are plain."""
    return {
        key: drop_hints(value) if isinstance(value, dict) else value
        for key, value in config.items()
        if key not in CONFIG_KEYS
    }


def _sections(config: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for key, value in config.items():
        if isinstance(value, dict):
            yield from [value] if key in CONFIG_KEYS else _sections(value)


def _tool_files(root: Path) -> Iterator[dict[str, Any]]:
    for name in QUANTISATION_FILES:
        path = root / name
        if path.is_file():
            try:
                content = json.loads(path.read_bytes())
            except ValueError:
                continue  # a hint that cannot be read is none; the tensors are judged without it
            if isinstance(content, dict):
                yield content


def _pairs(section: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    for key, value in section.items():
        if isinstance(value, dict):
            yield from _pairs(value)
        else:
            yield key, value


def _is_block(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(_is_size(part) for part in value)


def _is_size(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0
