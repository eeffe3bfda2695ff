"""Errors of the models package.

::

    ModelError
    ├── UnsupportedArchitecture   no experts found, or experts of a kind that cannot be exported
    ├── UnsupportedPrecision      a checkpoint's weights are quantised
    ├── CheckpointMismatch        a checkpoint's files do not fit its configuration
    ├── ExportParityError         an exported expert does not compute what torch computes
    ├── BundleNotFound            a folder is no bundle, or its preparation is unfinished
    ├── BundleCorrupt             a bundle's file is missing or differs from the manifest
    ├── BundleConflict            the folder holds a bundle of another model or precision
    ├── ProfileMissing            a bundle has no profile, or its profile lacks an array
    ├── KernelsUnavailable        compiled packing is asked for and cannot be loaded
    └── TaskDataError             a task's file is missing or not in the stated format
"""

from __future__ import annotations


class ModelError(Exception):
    """Base class of the errors of checkpoints, bundles, profiles and tasks."""


class UnsupportedArchitecture(ModelError):
    """A model has no experts that siftmoe can find or export."""


class UnsupportedPrecision(ModelError):
    """A checkpoint's weights are quantised or in a precision that siftmoe does not read."""


class CheckpointMismatch(ModelError):
    """A checkpoint's files are missing or do not fit its configuration."""


class ExportParityError(ModelError):
    """An exported expert does not compute what torch computes."""


class BundleNotFound(ModelError):
    """A folder is no bundle, or its preparation is unfinished."""


class BundleCorrupt(ModelError):
    """A file of a bundle is missing or differs from the manifest."""


class BundleConflict(ModelError):
    """The output folder holds a bundle of another model or precision, or other files."""


class ProfileMissing(ModelError):
    """A bundle has no profile, or its profile lacks the requested quantity."""


class TaskDataError(ModelError):
    """A task's file is missing or not in the stated format."""


class KernelsUnavailable(ModelError):
    """Compiled packing of vectors is required, and numba is missing or cannot be used."""
