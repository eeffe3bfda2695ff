"""Constellations: bits to symbols, symbols to soft bits, and what a channel lets through.

- `constellation.modulate`, `constellation.points`: QPSK to 256QAM with NR's Gray mapping.
- `demapper.demap`: soft bits, exact max-log.
- `information`: mutual information of a constellation, of soft bits, of a response; EVM.
- `schemes.SCHEMES`, `schemes.Scheme`: modulation and coding schemes (MCS).
"""
