"""A bundle's manifest: its files with their hashes, and the model's shape. Needs no torch.

``manifest.json`` is written last, so a folder that has one is complete. File names in it are
relative and stay inside the folder. A file's bytes are used only after their hash was checked.
"""

from __future__ import annotations

import hashlib
import io
import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Annotated, Literal

import msgspec
import numpy as np

from siftmoe.models.errors import BundleCorrupt, BundleNotFound
from siftmoe.models.shape import ModelShape

if TYPE_CHECKING:
    from numpy.typing import NDArray

FORMAT = 1
MANIFEST_NAME = "manifest.json"
PROFILE_NAME = "profile.npz"
BACKBONE_FOLDER = "backbone"

Dtype = Literal["float32", "float16"]

_EXPERT_NAME = re.compile(r"experts/layer_(\d+)_expert_(\d+)\.onnx$")
CHUNK_BYTES = 1 << 20  # large enough for full disk speed, small compared with any expert


def expert_name(layer: int, expert: int) -> str:
    """Name of an expert's file inside a bundle."""
    return f"experts/layer_{layer:03d}_expert_{expert:03d}.onnx"


def golden_name(layer: int) -> str:
    """Name of the file with a layer's golden inputs and outputs."""
    return f"golden/layer_{layer:03d}.npz"


class FileRecord(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Hash and size of a file, as written in the manifest."""

    sha256: Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]
    num_bytes: Annotated[int, msgspec.Meta(ge=0)]


class Source(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The checkpoint a bundle was made from."""

    name: str
    model_type: str
    architecture: str
    sha256: Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]


class Document(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``manifest.json`` as it stands on disk.

    ``layers`` maps the number of an expert layer to its experts module's path in the model.
    """

    format: int
    source: Source
    shape: ModelShape
    dtype: Dtype
    layers: list[str]
    files: dict[str, FileRecord]


@dataclass(frozen=True, slots=True, kw_only=True)
class FileEntry:
    """A file of a bundle: its name in the manifest, its path, hash and size."""

    name: str
    path: Path
    sha256: str
    num_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Golden:
    """Inputs of a layer's experts and the outputs that torch computed for them.

    Parameters
    ----------
    input : (n, d) float32
    output : (E, n, d) float32
        Output of every expert of the layer, unweighted.
    """

    input: NDArray[np.float32]
    output: NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """The contents of a bundle. ``model_hash`` identifies the model: its shape and all experts."""

    root: Path
    document: Document
    model_hash: str

    @classmethod
    def load(cls, bundle_dir: str | Path) -> Manifest:
        """Read and check a bundle's manifest; no other file is read.

        Raises
        ------
        BundleNotFound
            If the folder has no manifest.
        BundleCorrupt
            If the manifest is not well-formed or names a file outside the folder.
        """
        root = Path(bundle_dir)
        path = root / MANIFEST_NAME
        if not path.is_file():
            raise BundleNotFound(
                f"bundle {str(root)!r}: no {MANIFEST_NAME}; make a bundle with "
                f"'siftmoe prepare MODEL_DIR --out {root}' or finish one that was interrupted"
            )
        try:
            return cls.of(msgspec.json.decode(path.read_bytes(), type=Document), root=root)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise BundleCorrupt(
                f"bundle {str(root)!r}: {MANIFEST_NAME} is not valid: {error}; "
                f"copy the bundle again"
            ) from error

    @classmethod
    def of(cls, document: Document, *, root: Path) -> Manifest:
        """Check a document and bind it to a folder."""
        _check_document(document, root)
        return cls(root=root, document=document, model_hash=model_hash(document))

    @property
    def shape(self) -> ModelShape:
        """Sizes of the expert layers."""
        return self.document.shape

    @property
    def dtype(self) -> Dtype:
        """Precision of the experts."""
        return self.document.dtype

    @property
    def layers(self) -> list[str]:
        """Path of each expert layer's experts module in the model, by layer number."""
        return self.document.layers

    def file(self, name: str) -> FileEntry:
        """Look a file up by its name in the manifest.

        Raises
        ------
        BundleCorrupt
            If the manifest does not list it.
        """
        record = self.document.files.get(name)
        if record is None:
            raise BundleCorrupt(
                f"bundle {str(self.root)!r}: {MANIFEST_NAME} lists no {name!r}; prepare it again"
            )
        return FileEntry(
            name=name, path=self.root / name, sha256=record.sha256, num_bytes=record.num_bytes
        )

    def expert_file(self, layer: int, expert: int) -> FileEntry:
        """ONNX file of an expert; ValueError if the model has no such expert."""
        self.shape.check_expert(layer, expert)
        return self.file(expert_name(layer, expert))

    def golden_file(self, layer: int) -> FileEntry:
        """File with a layer's golden inputs and outputs."""
        self.shape.check_expert(layer, 0)
        return self.file(golden_name(layer))

    def profile_file(self) -> FileEntry | None:
        """File with the measured deviations, if the bundle was profiled."""
        return self.file(PROFILE_NAME) if PROFILE_NAME in self.document.files else None

    def verify_file(self, entry: FileEntry) -> Path:
        """Check a file against its hash, reading it in pieces, and return its path.

        Raises
        ------
        BundleCorrupt
            If it is missing, or its size or hash differs.
        """
        self._check_size(entry)
        actual = file_sha256(entry.path)
        if actual != entry.sha256:
            raise self._wrong_hash(entry, actual)
        return entry.path

    def read_file(self, entry: FileEntry) -> bytes:
        """Read a whole file and check the bytes that are returned; errors as verify_file."""
        self._check_size(entry)
        content = entry.path.read_bytes()
        actual = hashlib.sha256(content).hexdigest()
        if actual != entry.sha256:
            raise self._wrong_hash(entry, actual)
        return content

    def read_golden(self, layer: int) -> Golden:
        """Read a layer's golden inputs and outputs; errors as verify_file."""
        entry = self.golden_file(layer)
        with np.load(io.BytesIO(self.read_file(entry)), allow_pickle=False) as arrays:
            shapes = {name: arrays[name].shape for name in sorted(arrays)}
            rows = shapes.get("input", (0,))[0]
            width, experts = self.shape.hidden_size, self.shape.num_experts
            if shapes != {"input": (rows, width), "output": (experts, rows, width)}:
                raise BundleCorrupt(
                    f"bundle {str(self.root)!r}: {entry.name} holds {shapes}, which does not fit "
                    f"the model; prepare the bundle again"
                )
            return Golden(input=arrays["input"], output=arrays["output"])

    def _check_size(self, entry: FileEntry) -> None:
        if not entry.path.is_file():
            raise BundleCorrupt(
                f"bundle {str(self.root)!r}: {_describe(entry.name)} is missing "
                f"({entry.name}); copy the bundle again"
            )
        size = entry.path.stat().st_size
        if size != entry.num_bytes:
            raise BundleCorrupt(
                f"bundle {str(self.root)!r}: {_describe(entry.name)} has {size} bytes, "
                f"manifest says {entry.num_bytes}; copy the bundle again"
            )

    def _wrong_hash(self, entry: FileEntry, actual: str) -> BundleCorrupt:
        return BundleCorrupt(
            f"bundle {str(self.root)!r}: {_describe(entry.name)} has sha256 {actual[:12]}…, "
            f"manifest says {entry.sha256[:12]}…; copy the bundle again"
        )


def file_sha256(path: Path) -> str:
    """SHA-256 of a file, read in pieces."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def model_hash(document: Document) -> str:
    """Identity of a model: SHA-256 over its shape, precision and the hashes of all experts."""
    experts = {
        name: record.sha256
        for name, record in document.files.items()
        if name.startswith("experts/")
    }
    identity = (document.shape, document.dtype, experts)
    return hashlib.sha256(msgspec.json.encode(identity, order="sorted")).hexdigest()


def is_inside(name: str) -> bool:
    """Whether a file name is relative and plain, and stays inside its folder."""
    path = PurePosixPath(name)
    return (
        name == path.as_posix()
        and not path.is_absolute()
        and path.name != ""
        and ".." not in path.parts
        and not any(character in name for character in "\\:\0")
    )


def _check_document(document: Document, root: Path) -> None:
    if document.format != FORMAT:
        raise BundleCorrupt(
            f"bundle {str(root)!r}: format {document.format}, this siftmoe reads {FORMAT}; "
            f"prepare the bundle again or install the siftmoe it was made with"
        )
    for name in document.files:
        if not is_inside(name):
            raise BundleCorrupt(
                f"bundle {str(root)!r}: {MANIFEST_NAME} names {name!r}, which is not inside the "
                f"bundle; do not use it, get the bundle from where it was made"
            )
    if len(document.layers) != document.shape.num_layers:
        raise BundleCorrupt(
            f"bundle {str(root)!r}: {MANIFEST_NAME} lists {len(document.layers)} layers for a "
            f"model of {document.shape.num_layers}; prepare it again"
        )


def _describe(name: str) -> str:
    """Name the expert that a file holds, if it holds one."""
    match = _EXPERT_NAME.match(name)
    return f"expert {int(match[2])} of layer {int(match[1])}" if match else f"file {name}"
