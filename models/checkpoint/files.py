"""The files of a Hugging Face checkpoint folder, and the file of each tensor. Needs no torch."""

from __future__ import annotations

import hashlib
import json
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

from siftmoe.models.errors import CheckpointMismatch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import torch

CONFIG_NAME = "config.json"
WEIGHTS_NAME = "model.safetensors"
INDEX_NAME = "model.safetensors.index.json"

_CHUNK_BYTES = 1 << 20  # large enough for full disk speed

#: Files of quantisation tools beside the weights: ModelOpt, AutoGPTQ, AutoAWQ.
QUANTISATION_FILES = ("hf_quant_config.json", "quantize_config.json", "quant_config.json")
#: Files that describe the weights. All other JSON and text files are copied with the backbone,
#: because tokenizers have many files and names.
_NOT_COMPANIONS = {CONFIG_NAME, INDEX_NAME, "pytorch_model.bin.index.json", *QUANTISATION_FILES}
_COMPANION_SUFFIXES = {
    *(".json", ".jinja", ".txt"),
    *(".model", ".spm", ".tiktoken", ".vocab", ".bpe", ".codes"),
}
#: Folder of the chat templates beside the usual one, as for tools.
TEMPLATES_FOLDER = "additional_chat_templates"


class ReadTensor(Protocol):
    """Reads a tensor on disk, or with ``expert`` the slice of its first axis, without the axis."""

    def __call__(self, name: str, expert: int | None = None) -> torch.Tensor:
        """Read it."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceHashes:
    """SHA-256 of a checkpoint.

    Parameters
    ----------
    weights : str
        Of configuration and weights: the identity of the model.
    with_companions : str
        Of these and the companions: the identity that older bundles have.
    """

    weights: str
    with_companions: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointFiles:
    """A checkpoint folder: its configuration and the file that holds each tensor."""

    root: Path
    config: dict[str, Any]
    tensors: dict[str, Path]

    @classmethod
    def open(cls, model_dir: str | Path) -> CheckpointFiles:
        """List a folder's files and tensor names; no tensor is read.

        Raises
        ------
        CheckpointMismatch
            If it is no folder, or its configuration or a safetensors file is missing.
        """
        root = Path(model_dir)
        if not root.is_dir():
            raise CheckpointMismatch(
                f"checkpoint {str(model_dir)!r} is not a folder; siftmoe downloads nothing: fetch "
                f"a model with 'hf download NAME --local-dir FOLDER' and give the folder"
            )
        config = _read_json(root, CONFIG_NAME)
        return cls(root=root, config=config, tensors=_locate_tensors(root))

    @property
    def weights(self) -> list[Path]:
        """The safetensors files, by name."""
        return sorted(set(self.tensors.values()))

    @property
    def companions(self) -> list[Path]:
        """Tokenizer and generation files, which are copied with the backbone."""
        here = (
            path
            for path in self.root.iterdir()
            if path.suffix in _COMPANION_SUFFIXES and path.name not in _NOT_COMPANIONS
        )
        templates = (self.root / TEMPLATES_FOLDER).glob("*.jinja")
        return sorted(path for path in (*here, *templates) if path.is_file())

    def hashes(self, on_bytes: Callable[[int], None] = lambda _: None) -> SourceHashes:
        """Hash configuration and weights, and these together with the companions.

        ``on_bytes`` is called with the number of bytes read since the last call.
        """
        digest = hashlib.sha256()
        for path in [self.root / CONFIG_NAME, *self.weights]:
            _add_file(digest, path, on_bytes)
        weights = digest.hexdigest()
        for path in self.companions:
            _add_file(digest, path, on_bytes)
        return SourceHashes(weights=weights, with_companions=digest.hexdigest())

    def read(self, name: str, expert: int | None = None) -> torch.Tensor:
        """Read a tensor, or with ``expert`` the slice of its first axis, without the axis."""
        with self.opened() as read:
            return read(name, expert)

    @contextmanager
    def opened(self) -> Iterator[ReadTensor]:
        """Keep the files open that are read from, for many tensors: each has a long header."""
        from safetensors import safe_open

        with ExitStack() as stack:
            files: dict[Path, Any] = {}

            def read(name: str, expert: int | None = None) -> torch.Tensor:
                path = self.tensors[name]
                if path not in files:
                    files[path] = stack.enter_context(safe_open(path, framework="pt"))
                file = files[path]
                tensor = file.get_tensor(name) if expert is None else file.get_slice(name)[expert]
                return cast("torch.Tensor", tensor)

            yield read

    @property
    def vocabulary_size(self) -> int | None:
        """Tokens that the model knows, None if the configuration does not say so."""
        return _number(self.config, "vocab_size")

    @property
    def num_bytes(self) -> int:
        """Bytes that ``hashes`` reads."""
        paths = [self.root / CONFIG_NAME, *self.weights, *self.companions]
        return sum(path.stat().st_size for path in paths)


def context_length(config: dict[str, Any]) -> int | None:
    """Tokens that a model takes at most, by its ``config.json``; None if it has no limit."""
    return _number(config, "max_position_embeddings")


def _number(config: dict[str, Any], key: str) -> int | None:
    """Value of a key of the configuration, or of its text model's."""
    for part in (config, config.get("text_config")):
        if isinstance(part, dict) and isinstance(part.get(key), int):
            return int(part[key])
    return None


def _add_file(digest: hashlib._Hash, path: Path, on_bytes: Callable[[int], None]) -> None:
    digest.update(f"{path.name}\0{path.stat().st_size}\0".encode())
    with path.open("rb") as stream:
        while chunk := stream.read(_CHUNK_BYTES):
            digest.update(chunk)
            on_bytes(len(chunk))


def _read_json(root: Path, name: str) -> dict[str, Any]:
    path = root / name
    if not path.is_file():
        raise CheckpointMismatch(
            f"checkpoint {str(root)!r} has no {name}; give a folder as written by save_pretrained"
        )
    try:
        content = json.loads(path.read_bytes())
    except ValueError as error:
        raise CheckpointMismatch(
            f"checkpoint {str(root)!r}: {name} is not valid JSON ({error}); copy it again"
        ) from error
    if not isinstance(content, dict):
        raise CheckpointMismatch(f"checkpoint {str(root)!r}: {name} is not a JSON object")
    return content


def _locate_tensors(root: Path) -> dict[str, Path]:
    if (root / INDEX_NAME).is_file():
        return _locate_by_index(root)
    path = root / WEIGHTS_NAME
    if not path.is_file():
        raise CheckpointMismatch(
            f"checkpoint {str(root)!r} has neither {WEIGHTS_NAME} nor {INDEX_NAME}; weights in "
            f"another form must be saved again with transformers' save_pretrained"
        )
    return dict.fromkeys(_tensor_names(path), path)


def _locate_by_index(root: Path) -> dict[str, Path]:
    weight_map = _read_json(root, INDEX_NAME).get("weight_map")
    if not isinstance(weight_map, dict):
        raise CheckpointMismatch(f"checkpoint {str(root)!r}: {INDEX_NAME} has no weight_map")
    listed: dict[str, set[str]] = {}
    for tensor, file in weight_map.items():
        listed.setdefault(file, set()).add(tensor)
    for file, tensors in listed.items():
        if Path(file).name != file or not (root / file).is_file():
            raise CheckpointMismatch(
                f"checkpoint {str(root)!r}: {INDEX_NAME} names {file!r}, which is not there; "
                f"download or copy the checkpoint again"
            )
        if missing := tensors - set(_tensor_names(root / file)):
            raise CheckpointMismatch(
                f"checkpoint {str(root)!r}: {file} lacks {len(missing)} tensors that {INDEX_NAME} "
                f"lists, first {min(missing)!r}; download or copy the checkpoint again"
            )
    return {tensor: root / file for tensor, file in weight_map.items()}


def _tensor_names(path: Path) -> list[str]:
    # imported here: agents use this package without safetensors
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as tensors:
            return list(tensors.keys())
    except (SafetensorError, OSError) as error:
        raise CheckpointMismatch(
            f"checkpoint file {str(path)!r} cannot be read ({error}); copy it again"
        ) from error
