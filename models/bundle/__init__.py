"""A bundle: a prepared model on disk, with its backbone, ONNX experts and manifest.

Preparation exports every expert, compares it with torch and records the hash of every file; an
interrupted preparation is resumed. Agents read the manifest and their experts without torch.

- `reader.Bundle`: a prepared model on disk.
- `writer.prepare_bundle`: makes a bundle of a checkpoint.
- `update.update_companions`: adds tokenizer files to a finished bundle.
- `manifest.Manifest`: the files of a bundle and their hashes.
- `backbone.load_backbone`: the model without its experts.
- `export.build_expert`: one expert as an ONNX graph.
- `onnx_file.OnnxFile`: an ONNX model that is written weight by weight.
- `parity.prove_parity`: the comparison of an exported expert with torch.
- `journal.Journal`: the finished files of an unfinished preparation.
"""
