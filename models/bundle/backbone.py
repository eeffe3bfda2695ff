"""Writes and loads a bundle's backbone, a Hugging Face folder without expert weights."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Any, Literal

import torch
from safetensors import safe_open
from safetensors.torch import save_file

from siftmoe.models.checkpoint.architecture import build_empty_model
from siftmoe.models.checkpoint.files import CONFIG_NAME, INDEX_NAME, WEIGHTS_NAME, CheckpointFiles
from siftmoe.models.checkpoint.quantised.hints import drop_hints
from siftmoe.models.checkpoint.reader import expert_parameters, find_moe_layers
from siftmoe.models.errors import BundleCorrupt, CheckpointMismatch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from torch import Tensor

    from siftmoe.models.checkpoint.reader import Checkpoint

BackboneDtype = Literal["float32", "float16", "bfloat16"]

#: A shard is collected in memory before it is written, so its size bounds preparation's memory.
SHARD_BYTES = 256 << 20


def write_backbone(
    checkpoint: Checkpoint,
    folder: Path,
    *,
    shard_bytes: int = SHARD_BYTES,
    on_bytes: Callable[[int], None] = lambda _: None,
) -> list[Path]:
    """Write all of a checkpoint except its experts; returns the files, sorted.

    Tensors keep the checkpoint's precision, quantised ones become float32. They get the names
    they have in the model.

    Raises
    ------
    CheckpointMismatch
        If the checkpoint lacks a parameter of the backbone.
    """
    folder.mkdir(parents=True, exist_ok=True)
    root = checkpoint.files.root
    for path in [root / CONFIG_NAME, *checkpoint.files.companions]:
        target = folder / path.relative_to(root)
        target.parent.mkdir(exist_ok=True)
        shutil.copyfile(path, target)
    _drop_quantisation(folder / CONFIG_NAME)
    shards = list(_write_shards(checkpoint, folder, shard_bytes, on_bytes))
    _check_complete(checkpoint, {name for shard in shards for name in shard})
    _name_shards(folder, shards)
    return sorted(path for path in folder.rglob("*") if path.is_file())


def load_backbone(folder: Path, dtype: BackboneDtype) -> Any:
    """Build the model of a backbone folder; its expert parameters stay on the meta device.

    Raises
    ------
    BundleCorrupt
        If a parameter of the backbone is missing.
    """
    target = getattr(torch, dtype)
    model = build_empty_model(folder)
    for name, tensor in _tensors(folder):
        if tensor.is_floating_point() and not _stays_float32(model, name):
            tensor = tensor.to(target)
        model.load_state_dict({name: tensor}, strict=False, assign=True)
    model.tie_weights()
    experts = expert_parameters(model, find_moe_layers(model))
    missing = {name for name, p in model.named_parameters() if p.is_meta} - experts
    if missing:
        raise BundleCorrupt(
            f"backbone {str(folder)!r} lacks {len(missing)} parameters, first {min(missing)!r}; "
            f"prepare the bundle again"
        )
    model.requires_grad_(False)
    model.config.dtype = target
    _set_generation(model, folder)
    return model.eval()


def _drop_quantisation(path: Path) -> None:
    """Remove what a configuration says about quantisation: the backbone's weights are plain."""
    config = json.loads(path.read_bytes())
    plain = drop_hints(config)
    if plain != config:
        path.write_text(json.dumps(plain, indent=2) + "\n", encoding="utf-8")


def _write_shards(
    checkpoint: Checkpoint, folder: Path, shard_bytes: int, on_bytes: Callable[[int], None]
) -> Iterator[list[str]]:
    """Write numbered shards and yield the names of the tensors in each."""
    shard: dict[str, Tensor] = {}
    size = number = 0
    for name, tensor in checkpoint.backbone_tensors():
        if shard and size + tensor.nbytes > shard_bytes:
            yield _write_shard(folder, number, shard)
            shard, size, number = {}, 0, number + 1
        shard[name] = tensor.contiguous()
        size += tensor.nbytes
        on_bytes(tensor.nbytes)
    yield _write_shard(folder, number, shard)


def _write_shard(folder: Path, number: int, shard: dict[str, Tensor]) -> list[str]:
    save_file(shard, folder / f"{number:05d}.part", metadata={"format": "pt"})
    return list(shard)


def _name_shards(folder: Path, shards: list[list[str]]) -> None:
    """Rename shards to their final names, which contain their number, and write the index."""
    if len(shards) == 1:
        (folder / "00000.part").replace(folder / WEIGHTS_NAME)
        return
    weight_map: dict[str, str] = {}
    for number, names in enumerate(shards):
        file = f"model-{number + 1:05d}-of-{len(shards):05d}.safetensors"
        (folder / f"{number:05d}.part").replace(folder / file)
        weight_map.update(dict.fromkeys(names, file))
    index = {"metadata": {}, "weight_map": weight_map}
    (folder / INDEX_NAME).write_text(json.dumps(index, indent=1, sort_keys=True))


def _check_complete(checkpoint: Checkpoint, written: set[str]) -> None:
    model = checkpoint.model
    wanted = set(model.state_dict()) - checkpoint.expert_parameters - set(_tied(model))
    missing = sorted(wanted - written)
    if missing:
        raise CheckpointMismatch(
            f"checkpoint {str(checkpoint.files.root)!r} lacks {len(missing)} parameters of the "
            f"model, first {missing[0]!r}; download or copy the checkpoint again"
        )


def _tied(model: Any) -> dict[str, str]:
    tied: dict[str, str] = model.all_tied_weights_keys
    return tied


def _tensors(folder: Path) -> Iterator[tuple[str, Tensor]]:
    files = CheckpointFiles.open(folder)
    for path in files.weights:
        with safe_open(path, framework="pt") as shard:
            for name in shard.keys():  # noqa: SIM118, a shard is not a mapping
                yield name, shard.get_tensor(name)


def _stays_float32(model: Any, name: str) -> bool:
    """Whether transformers keeps a parameter in float32 at every precision of the model."""
    kept = [*(model._keep_in_fp32_modules or ()), *(model._keep_in_fp32_modules_strict or ())]
    return any(part in name.split(".") for part in kept)


def _set_generation(model: Any, folder: Path) -> None:
    from transformers import GenerationConfig

    if (folder / "generation_config.json").is_file():
        model.generation_config = GenerationConfig.from_pretrained(folder, local_files_only=True)
