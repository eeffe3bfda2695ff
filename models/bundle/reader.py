"""Reads a prepared model on disk: backbone, experts, golden files, tokenizer."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from siftmoe.models.bundle.manifest import BACKBONE_FOLDER, Manifest
from siftmoe.models.checkpoint.files import CONFIG_NAME, context_length
from siftmoe.models.errors import BundleCorrupt, CheckpointMismatch

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from siftmoe.models.bundle.backbone import BackboneDtype
    from siftmoe.models.shape import ModelShape


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundle:
    """A prepared model on disk. Opening reads only the manifest and imports no torch."""

    manifest: Manifest

    @classmethod
    def open(cls, bundle_dir: str | Path) -> Bundle:
        """Open a bundle's folder.

        Raises
        ------
        BundleNotFound, BundleCorrupt
            If there is no manifest, or it is not valid.
        """
        return cls(manifest=Manifest.load(bundle_dir))

    @property
    def root(self) -> Path:
        """The bundle's folder."""
        return self.manifest.root

    @property
    def backbone(self) -> Path:
        """Hugging Face folder of the backbone."""
        return self.root / BACKBONE_FOLDER

    @property
    def shape(self) -> ModelShape:
        """Sizes of the expert layers."""
        return self.manifest.shape

    @property
    def context_length(self) -> int | None:
        """Tokens that the model takes at most, None if its configuration has no limit."""
        return context_length(json.loads((self.backbone / CONFIG_NAME).read_bytes()))

    def load_backbone(self, dtype: BackboneDtype = "float32") -> Any:
        """Load the model without its experts; their parameters stay on the meta device.

        Parameters
        ----------
        dtype : "float32", "float16" or "bfloat16"
            Precision of the parameters.

        Returns
        -------
        transformers.PreTrainedModel
            In evaluation mode; its experts must be attached before it is run.

        Raises
        ------
        BundleCorrupt
            If a file of the backbone is missing or damaged.
        """
        from siftmoe.models.bundle.backbone import load_backbone

        self._verify_backbone()
        return load_backbone(self.backbone, dtype)

    def load_tokenizer(self) -> Any:
        """Load the tokenizer of the checkpoint.

        Raises
        ------
        BundleCorrupt
            If the bundle has none, or it cannot be loaded.
        """
        from siftmoe.models.checkpoint.tokenizer import has_tokenizer, load_tokenizer

        if not has_tokenizer(self.backbone):
            raise BundleCorrupt(
                f"bundle {str(self.root)!r} has no tokenizer; put the tokenizer's files into the "
                f"checkpoint's folder and prepare it again, which keeps the experts"
            )
        try:
            return load_tokenizer(self.backbone)
        except CheckpointMismatch as error:
            raise BundleCorrupt(str(error)) from error

    def verify(self, on_bytes: Callable[[int], None] = lambda _: None) -> None:
        """Check every file against its hash; BundleCorrupt names the first that is damaged."""
        for name in sorted(self.manifest.document.files):
            entry = self.manifest.file(name)
            self.manifest.verify_file(entry)
            on_bytes(entry.num_bytes)

    def _verify_backbone(self) -> None:
        for name in sorted(self.manifest.document.files):
            if name.startswith(f"{BACKBONE_FOLDER}/"):
                self.manifest.verify_file(self.manifest.file(name))
