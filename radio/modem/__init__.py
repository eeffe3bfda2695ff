"""The modem: bytes to the samples of a burst, and back.

Functions and objects over arrays; no thread, no clock, and a radio in `linktest` only. Needs numba.

- `transmitter.announce`, `transmitter.burst`: header and samples of a payload.
- `receiving.receiver.Receiver`: samples in, receptions out.
- `linktest.link_test`: a test of two radios, one direction.
- `coding`: LDPC codes of 5G NR, rate matching, blocks with checksums.
- `symbols`: constellations, soft bits, mutual information, schemes (MCS).
- `framing`: OFDM symbols, preamble, header, layout of a burst.
- `receiving`: acquisition, channel, phase, blocks, soft combining.
"""
