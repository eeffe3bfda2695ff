"""Errors of the models package.

::

    ModelError
    ├── UnsupportedArchitecture   no experts found, or experts of a kind that cannot be exported
    ├── CheckpointMismatch        a checkpoint's files do not fit its configuration
    ├── ExportParityError         an exported expert does not compute what torch computes
    ├── BundleNotFound            a folder is no bundle, or its preparation did not end
    ├── BundleCorrupt             a bundle's file is missing or not what the manifest says
    ├── BundleConflict            a bundle of another model or precision stands in the way
    ├── ProfileMissing            a bundle has no profile, or its profile lacks an array
    ├── KernelsUnavailable        compiled code is asked for where it cannot be
    └── TaskDataError             a task's file is missing or not of the stated kind
"""

from __future__ import annotations


class ModelError(Exception):
    """Root of what can go wrong with checkpoints, bundles and tasks."""


class UnsupportedArchitecture(ModelError):
    """A model has no experts that siftmoe can find or export."""


class CheckpointMismatch(ModelError):
    """A checkpoint's files are missing or do not fit its configuration."""


class ExportParityError(ModelError):
    """An exported expert does not compute what torch computes."""


class BundleNotFound(ModelError):
    """A folder is no bundle, or its preparation did not end."""


class BundleCorrupt(ModelError):
    """A file of a bundle is missing or not what the manifest says."""


class BundleConflict(ModelError):
    """A bundle of another model or precision stands where one is to be written."""


class ProfileMissing(ModelError):
    """A bundle has no profile, or its profile lacks what is asked of it."""


class TaskDataError(ModelError):
    """A task's file is missing or not of the stated kind."""


class KernelsUnavailable(ModelError):
    """Vectors are to be packed by compiled code, and numba is missing or cannot be used."""
