"""A Hugging Face mixture-of-experts checkpoint, read expert by expert.

The folder's configuration is built into a model on the meta device; tensors are read one expert at
a time, so a checkpoint may be larger than memory.

- `reader.Checkpoint`: an open checkpoint.
- `architecture.build_empty_model`: its model without weights; code in the folder is never run.
- `files.CheckpointFiles`: the folder's configuration, and the file of each tensor.
- `tokenizer.load_tokenizer`: the tokenizer of a folder.
- `headers.read_headers`, `precision.check_precision`, `shapes.check_shapes`: what is read is judged
  by the tensors' precision, names and shapes.
- `layers.MoELayer`, `layers.find_moe_layers`: the expert layers of a model.
- `names.Source`, `names.map_sources`: from tensor names on disk to the model's parameters.
- `experts.ExpertWeights`, `experts.Activation`: one expert in float32, whatever its layout on disk.
"""
