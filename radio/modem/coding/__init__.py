"""Channel coding: the LDPC codes of 5G NR, their rate matching, and blocks with checksums.

- `blocks.segment`, `blocks.Segmentation`: payload to blocks and back, CRC-32.
- `code.block_code`, `code.BlockCode`: encoder, soft buffers, decoder of one block.
- `matching`: choice of the graph, redundancy versions, bit interleaver.
- `graphs.lifted`: base graphs at a lifting size; `base_graphs.csv` is the standard's table.
- `kernels`: compiled loops; `plain`: the decoder in plain numpy.
"""
