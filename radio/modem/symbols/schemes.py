"""Modulation and coding schemes (MCS): bits per symbol and nominal code rate [D].

The nominal rate fixes the number of symbols; coded bits then fill every OFDM symbol, so that the
rate on the air is a little lower. The list is part of the air interface: its order must not change.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Scheme:
    """One scheme.

    Parameters
    ----------
    order : int
        Bits per symbol.
    rate : float
        Nominal code rate.
    """

    order: int
    rate: float

    @property
    def efficiency(self) -> float:
        """Information bits per symbol."""
        return self.order * self.rate

    @property
    def name(self) -> str:
        """Name for tables: ``64QAM 0.66``."""
        constellation = "QPSK" if self.order == 2 else f"{2**self.order}QAM"
        return f"{constellation} {self.rate:.2f}"


SCHEMES = (
    Scheme(2, 0.20),
    Scheme(2, 0.34),
    Scheme(2, 0.50),
    Scheme(2, 0.66),
    Scheme(4, 0.42),
    Scheme(4, 0.50),
    Scheme(4, 0.58),
    Scheme(4, 0.66),
    Scheme(6, 0.50),
    Scheme(6, 0.58),
    Scheme(6, 0.66),
    Scheme(6, 0.74),
    Scheme(6, 0.80),
    Scheme(8, 0.66),
    Scheme(8, 0.71),
    Scheme(8, 0.76),
    Scheme(8, 0.81),
    Scheme(8, 0.86),
)


def scheme(index: int) -> Scheme:
    """Return a scheme by its number.

    Raises
    ------
    ValueError
        If there is none.
    """
    if not 0 <= index < len(SCHEMES):
        raise ValueError(f"modem: scheme must lie in 0..{len(SCHEMES) - 1}, got {index}")
    return SCHEMES[index]
