"""Weights that a checkpoint stores quantised, read as float32.

A format is recognised by the names, precisions and shapes of its tensors. What is recognised gets
the name and shape of the plain weight, so that transformers' conversions apply to it unchanged. It
is decoded one matrix at a time.

- `formats.find_quantised`: the quantised weights of a checkpoint; the table of formats.
- `weight.QuantisedWeight`: one such weight, and how it is read.
- `weight.Stored`: what a format sees of a checkpoint.
- `hints.Hints`: what configurations say where tensors leave a choice.
- `scaled`: fp8 and int8 with scales per tensor, channel, group or block, and LLM.int8.
- `fp4`: MXFP4 and NVFP4. `normalfloat`: 4 bits of bitsandbytes.
- `gptq`, `awq`, `packed`: integers of 2 to 8 bits in words of 32. `words`: their unpacking.
- `leftovers.is_harmless`: what describes activations and caches, not weights.
"""
