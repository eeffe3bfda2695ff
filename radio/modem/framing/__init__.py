"""The burst: preamble, header, payload symbols; who sends which cell when.

- `carriers.Numerology`, `carriers.NUMEROLOGIES`: OFDM symbols of 256, 512 and 1,024 samples.
- `preamble.preamble`: the sounding room's sync part, and pilot symbols if wanted.
- `header.Header`: what a burst says about itself, 96 bits with CRC-16.
- `layout.Layout`, `layout.plan`: blocks, cells and samples of a burst with a given header.
"""
