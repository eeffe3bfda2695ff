"""Prepares a bundle from a checkpoint: backbone, one ONNX file per expert, golden files, manifest.

Every file is written under a temporary name and then renamed; the manifest is written last. The
journal lists the finished files of an interrupted run, which are kept.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from siftmoe.models.bundle.journal import Header, Journal
from siftmoe.models.bundle.manifest import (
    BACKBONE_FOLDER,
    FORMAT,
    MANIFEST_NAME,
    Document,
    Dtype,
    FileRecord,
    Source,
    expert_name,
    golden_name,
)
from siftmoe.models.bundle.reader import Bundle
from siftmoe.models.bundle.update import update_companions, write_manifest
from siftmoe.models.checkpoint.files import CheckpointFiles
from siftmoe.models.errors import BundleConflict

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from siftmoe.models.checkpoint.files import SourceHashes
    from siftmoe.models.checkpoint.reader import Checkpoint

    Stage = Literal["hash", "verify", "backbone", "experts"]
    OnProgress = Callable[["Progress"], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """Progress of a preparation.

    Parameters
    ----------
    stage : str
        "hash" and "verify" count bytes, "backbone" its bytes, "experts" experts. A bundle that
        is complete already has the stages "hash" and "verify" only.
    done, total : int
        Of the stage.
    """

    stage: Stage
    done: int
    total: int


def prepare_bundle(
    model_dir: str | Path,
    out: str | Path,
    *,
    dtype: Dtype = "float32",
    on_progress: OnProgress | None = None,
) -> Bundle:
    """Make a bundle of a checkpoint, resume an unfinished one, or open and check a finished one.

    Parameters
    ----------
    model_dir : path
        Folder as written by ``save_pretrained``.
    out : path
        Folder of the bundle; created if missing.
    dtype : "float32" or "float16"
        Precision of the experts; the backbone keeps the checkpoint's.
    on_progress : callable or None
        Called with a `Progress` as work gets done.

    Raises
    ------
    CheckpointMismatch, UnsupportedArchitecture
        If the checkpoint cannot be read, or its experts not exported.
    ExportParityError
        If an exported expert does not compute what torch computes.
    BundleConflict
        If ``out`` holds a bundle of another model or precision, or other files.
    BundleCorrupt
        If ``out`` holds this bundle and a file of it is damaged.

    Notes
    -----
    Tokenizer files that the checkpoint got, or has otherwise, since the bundle was finished are
    copied; its experts are kept.
    """
    report: OnProgress = on_progress or (lambda _: None)
    root = Path(out)
    files = CheckpointFiles.open(model_dir)
    count = _counter(report, "hash", files.num_bytes)
    if (root / MANIFEST_NAME).is_file():
        return _open_same(root, files, files.hashes(count), dtype=dtype, report=report)

    from siftmoe.models.checkpoint.reader import Checkpoint

    checkpoint = Checkpoint.open(model_dir)  # what is refused is refused before hours of hashing
    hashes = files.hashes(count)
    with Journal(root, Header(source_sha256=hashes.weights, dtype=dtype)) as journal:
        document = Document(
            format=FORMAT,
            source=Source(
                name=files.root.resolve().name,
                model_type=str(checkpoint.model.config.model_type),
                architecture=type(checkpoint.model).__name__,
                sha256=hashes.weights,
            ),
            shape=checkpoint.shape,
            dtype=dtype,
            layers=[layer.name for layer in checkpoint.layers],
            files={
                **_write_backbone(checkpoint, journal, report),
                **_write_experts(checkpoint, journal, dtype=dtype, report=report),
            },
        )
        write_manifest(root, document)
        journal.finish()
    return Bundle.open(root)


def _open_same(
    root: Path, files: CheckpointFiles, hashes: SourceHashes, *, dtype: Dtype, report: OnProgress
) -> Bundle:
    bundle = Bundle.open(root)
    found = bundle.manifest.document
    same = found.source.sha256 in (hashes.weights, hashes.with_companions)
    if not same or found.dtype != dtype:
        raise BundleConflict(
            f"bundle {str(root)!r} was made from {found.source.name!r} (sha256 "
            f"{found.source.sha256[:12]}…) in {found.dtype}, asked for is a checkpoint with "
            f"sha256 {hashes.weights[:12]}… in {dtype}; delete the folder or give another --out"
        )
    total = sum(record.num_bytes for record in found.files.values())
    bundle.verify(_counter(report, "verify", total))
    return Bundle.open(root) if update_companions(root, files) else bundle


def _write_backbone(
    checkpoint: Checkpoint, journal: Journal, report: OnProgress
) -> dict[str, FileRecord]:
    from siftmoe.models.bundle.backbone import write_backbone

    experts = checkpoint.expert_parameters
    state = checkpoint.model.state_dict()
    total = sum(state[name].nbytes for name in checkpoint.sources if name not in experts)
    on_bytes = _counter(report, "backbone", total)
    paths = write_backbone(checkpoint, journal.root / BACKBONE_FOLDER, on_bytes=on_bytes)
    names = [path.relative_to(journal.root).as_posix() for path in paths]
    return {name: journal.add(name) for name in names}


def _write_experts(
    checkpoint: Checkpoint, journal: Journal, *, dtype: Dtype, report: OnProgress
) -> dict[str, FileRecord]:
    shape = checkpoint.shape
    for folder in ("experts", "golden"):
        (journal.root / folder).mkdir(exist_ok=True)
    count = _counter(report, "experts", shape.num_layers * shape.num_experts)
    records: dict[str, FileRecord] = {}
    for layer in range(shape.num_layers):
        outputs = []
        for expert in range(shape.num_experts):
            name = expert_name(layer, expert)
            records[name], output = _write_expert(checkpoint, journal, (layer, expert), dtype=dtype)
            outputs.append(output)
            count(1)
        records[golden_name(layer)] = _write_golden(journal, layer, np.stack(outputs))
    return records


def _write_expert(
    checkpoint: Checkpoint, journal: Journal, which: tuple[int, int], *, dtype: Dtype
) -> tuple[FileRecord, NDArray[np.float32]]:
    """Export, check and record one expert, or take it from the journal."""
    from siftmoe.models.bundle.export import build_expert
    from siftmoe.models.bundle.parity import golden_input, prove_parity, torch_output

    name = expert_name(*which)
    golden = journal.work / f"golden_{which[0]:03d}_{which[1]:03d}.npy"
    record = journal.finished(name)
    if record is not None and golden.is_file():
        return record, np.load(golden, allow_pickle=False)
    fused = checkpoint.read_fused(*which)
    hidden = golden_input(which[0], checkpoint.shape.hidden_size)
    reference = torch_output(checkpoint.layers[which[0]], fused, hidden)
    part = journal.work / "expert.onnx"
    model = build_expert(checkpoint.plain(which[0], fused), dtype)
    del fused
    model.write(part)
    del model  # ONNX Runtime loads the weights a second time
    title = f"expert {which[1]} of layer {which[0]}"
    prove_parity(part, name=title, hidden=hidden, reference=reference, dtype=dtype)
    np.save(golden, reference)
    part.replace(journal.root / name)
    return journal.add(name), reference


def _write_golden(journal: Journal, layer: int, output: NDArray[np.float32]) -> FileRecord:
    from siftmoe.models.bundle.parity import golden_input

    path = journal.root / golden_name(layer)
    part = journal.work / "golden.npz"
    np.savez(part, input=golden_input(layer, output.shape[-1]), output=output)
    part.replace(path)
    return journal.add(golden_name(layer))


def _counter(report: OnProgress, stage: Stage, total: int) -> Callable[[int], None]:
    done = 0

    def count(more: int) -> None:
        nonlocal done
        done += more
        report(Progress(stage=stage, done=done, total=total))

    return count
