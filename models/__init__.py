"""Mixture-of-experts models: checkpoints, bundles of exported experts, profiles, accuracy tasks.

Rooms, from the lowest floor:

- `errors`, `shape`: the package's errors, and the sizes of a model's expert layers.
- `vectors`: hidden states as they travel: rotated, quantised, packed.
- `checkpoint`: Hugging Face checkpoints, read expert by expert.
- `bundle`: a prepared model on disk: backbone, ONNX experts, manifest.
- `tiny`: the checkpoints and evaluation sets that ship with the package.
- `similarity`: the profile of a bundle: measured similarity of its experts.
- `tasks`: accuracy tasks: files, token sequences, scores.
- `profiling`: the measurement of a profile.
- `training`: how the shipped checkpoints were made.
"""
