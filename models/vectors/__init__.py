"""Hidden states as they travel: rotated, quantised, packed in 2 to 32 bits per entry. No torch.

A row of numbers becomes a record of bytes and is read back; compiled kernels and numpy give the
same bytes.

- `records.to_records`, `records.from_records`: rows of one width as records.
- `fused.write`, `fused.read`: rotation, quantisation and packing in one call.
- `quantise.quantise`, `quantise.reconstruct`: rows to codes and steps, and back.
- `rotation.rotate`: signs and a Hadamard matrix; `packing.pack`: codes side by side in bytes.
- `kernels`: compiled code (numba); `channels`: steps per channel, for comparison only.
"""
