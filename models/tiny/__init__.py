"""The trained checkpoints and the evaluation sets that ship with the package. Needs no torch.

Two small Mixtral models, calibration text and two evaluation sets; docs/explanation/checkpoints.md
says how they were made. The room is mostly data, so it has two modules only.

- `files.checkpoint_dir`, `files.data_path`: the path of a checkpoint or a data set by its name.
- `shipped.differences`: the files that differ from ``manifest.json``.
"""
