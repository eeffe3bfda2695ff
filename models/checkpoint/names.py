"""Maps tensor names on disk to a model's parameters with transformers' own conversion tables.

A checkpoint may hold a tensor per expert under a family's historical names (``experts.3.w1``),
or all experts fused, transposed or not. transformers has a list of renamings and conversions for
each family. They are applied here to the names first. Tensors are converted only when they are
read, and those of a single expert alone where the conversion allows it.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from siftmoe.models.errors import CheckpointMismatch, UnsupportedArchitecture

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    import torch

    from siftmoe.models.checkpoint.headers import TensorHeader


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """The tensors on disk and the conversion that make one parameter.

    Parameters
    ----------
    target : str
        Name of the parameter in the model; if one conversion makes several, the first.
    converter : WeightConverter or None
        transformers' conversion; None if the tensor is used unchanged.
    patterns : dict of str to list of str
        Names on disk, in order, per source pattern of the conversion.
    """

    target: str
    converter: Any = None
    patterns: dict[str, list[str]] = field(default_factory=dict)

    @property
    def names(self) -> list[str]:
        """All names on disk."""
        return [name for names in self.patterns.values() for name in names]

    def convert(
        self, tensors: dict[str, list[torch.Tensor]], *, model: Any
    ) -> dict[str, torch.Tensor]:
        """Convert the tensors of each source pattern; returns parameters by name."""
        if self.converter is None:
            return {self.target: next(iter(tensors.values()))[0]}
        converter = copy.deepcopy(self.converter)
        for pattern, values in tensors.items():
            for value in values:
                converter.add_tensor(self.target, pattern, pattern, value)
        converted = converter.convert(self.target, model=model, config=model.config)
        return {
            name: value[0] if isinstance(value, list) else value
            for name, value in converted.items()
        }


def map_sources(names: Iterable[str], model: Any) -> tuple[dict[str, Source], list[str]]:
    """Assign every tensor on disk to its parameter.

    Returns
    -------
    sources : dict of str to Source
        By the parameter's name in the model.
    unused : list of str
        Names on disk for which the model has no parameter.
    """
    from transformers.conversion_mapping import get_model_conversion_mapping
    from transformers.core_model_loading import WeightConverter, WeightRenaming, dot_natural_key

    transforms = get_model_conversion_mapping(model)
    renamings = [entry for entry in transforms if isinstance(entry, WeightRenaming)]
    converters = [entry for entry in transforms if isinstance(entry, WeightConverter)]
    by_pattern = {pattern: entry for entry in converters for pattern in entry.source_patterns}
    state = model.state_dict()
    sources: dict[str, Source] = {}
    unused: list[str] = []
    for name in sorted(names, key=dot_natural_key):
        target, pattern = _rename(name, model, state, renamings, converters)
        if target not in state:
            unused.append(name)
            continue
        converter = by_pattern.get(pattern) if pattern is not None else None
        source = sources.setdefault(target, Source(target=target, converter=converter))
        source.patterns.setdefault(pattern or name, []).append(name)
    return sources, unused


def _rename(
    name: str, model: Any, state: dict[str, Any], renamings: list[Any], converters: list[Any]
) -> tuple[str, str | None]:
    from transformers.core_model_loading import rename_source_key

    prefix = model.base_model_prefix
    target, pattern = rename_source_key(name, renamings, converters, prefix, state)
    if target not in state and name in state:
        target, pattern = rename_source_key(name, [], [], prefix, state)
    return target, pattern


def one_expert(
    source: Source, expert: int, *, num_experts: int, model: Any, read: Callable[..., torch.Tensor]
) -> torch.Tensor:
    """Read one expert's part of a fused parameter, as a fused parameter of one expert.

    Parameters
    ----------
    read : callable
        ``read(name)`` gives a tensor, ``read(name, expert)`` the slice [expert : expert + 1].

    Returns
    -------
    (1, ...) Tensor

    Raises
    ------
    CheckpointMismatch
        If the number of experts in the checkpoint differs from the configuration.
    UnsupportedArchitecture
        If the conversion mixes experts, so that a single one cannot be read.
    """
    if _is_per_expert(source):
        check_expert_count(source, num_experts)
        tensors = {pattern: [read(names[expert])] for pattern, names in source.patterns.items()}
    else:
        _check_sliceable(source)
        tensors = {pattern: [read(names[0], expert)] for pattern, names in source.patterns.items()}
    return source.convert(tensors, model=model)[source.target]


def check_expert_count(source: Source, num_experts: int) -> None:
    """Raise CheckpointMismatch if a fused parameter is made of another number of tensors."""
    if not _is_per_expert(source):
        return
    for pattern, names in source.patterns.items():
        if len(names) != num_experts:
            raise CheckpointMismatch(
                f"the checkpoint has {len(names)} tensors {pattern!r} for {source.target!r}, "
                f"the configuration says {num_experts} experts; fetch the checkpoint again"
            )


def settle_checks(
    sources: dict[str, Source], headers: dict[str, TensorHeader], *, model: Any
) -> dict[str, Source]:
    """Replace transpositions that depend on a tensor's shape by what they do with this one.

    A conversion with ``check_dims`` transposes only where the tensor on disk has another shape than
    the parameter. One expert's slice never has the parameter's shape, so this is decided first.
    """
    return {
        target: _settled(source, headers, model=model)
        if any(vars(step).get("check_dims", False) for step in _operations(source))
        else source
        for target, source in sources.items()
    }


def _settled(source: Source, headers: dict[str, TensorHeader], *, model: Any) -> Source:
    same = headers[source.names[0]].shape == tuple(model.get_parameter(source.target).shape)
    steps = []
    for step in _operations(source):
        if vars(step).get("check_dims", False):
            if same:
                continue
            step = copy.copy(step)
            step.check_dims = False
        steps.append(step)
    converter = copy.deepcopy(source.converter)
    converter.operations = steps
    return replace(source, converter=converter if steps else None)


def _operations(source: Source) -> list[Any]:
    return list(source.converter.operations) if source.converter is not None else []


def _is_per_expert(source: Source) -> bool:
    operations = _operations(source)
    return bool(operations) and type(operations[0]).__name__ == "MergeModulelist"


def _check_sliceable(source: Source) -> None:
    """Refuse operations on the experts' axis: they cannot be applied to one expert alone."""
    for operation in _operations(source):
        axes = [vars(operation).get(axis, 1) for axis in ("dim", "dim0", "dim1")]
        known = type(operation).__name__ in {"Transpose", "Interleave", "Chunk", "Concatenate"}
        # check_dims compares with the shape of the whole parameter; settle_checks answers it before
        if not known or 0 in axes or vars(operation).get("check_dims", False):
            raise UnsupportedArchitecture(
                f"the checkpoint stores {source.target!r} in a form ({operation!r}) of which one "
                f"expert cannot be read alone; load and save it again with transformers"
            )
