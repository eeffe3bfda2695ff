"""Compiled sums over the cells of a payload, for the phase filter and the tap fit."""

from __future__ import annotations

from typing import Any

import numpy as np

from siftmoe.radio.compiled import compiled_fast


@compiled_fast
def correlate(
    tones: Any, expected: Any, data: Any, known: Any, response: Any, matched: Any, energy: Any
) -> None:
    r"""Compute the sums of (H X)* Y and of \|H X\|² over pilots and known cells of every symbol.

    Parameters
    ----------
    tones : (S, P) complex64
        Received pilots.
    expected : (P,) complex64
        Pilots through the present response.
    data, known : (S, K) complex64
        Received cells, and what was sent in the first symbols of them; 0 where it is not known.
    response : (K,) complex64
    matched : (S,) complex128
        Receives the first sums.
    energy : (S,) float64
        Receives the second sums.
    """
    for s in range(tones.shape[0]):
        real, imaginary, power = np.float32(0), np.float32(0), np.float32(0)
        for k in range(tones.shape[1]):
            a, b, y = expected[k].real, expected[k].imag, tones[s, k]
            real += a * y.real + b * y.imag
            imaginary += a * y.imag - b * y.real
            power += a * a + b * b
        if s < known.shape[0]:
            for k in range(known.shape[1]):
                x, h, y = known[s, k], response[k], data[s, k]
                a = h.real * x.real - h.imag * x.imag
                b = h.real * x.imag + h.imag * x.real
                real += a * y.real + b * y.imag
                imaginary += a * y.imag - b * y.real
                power += a * a + b * b
        matched[s] = complex(real, imaginary)
        energy[s] = power


@compiled_fast
def accumulate(data: Any, known: Any, phasors: Any, response: Any, matched: Any, power: Any) -> Any:
    r"""Compute the fit's sums at every carrier, and the error of the present response.

    Parameters
    ----------
    data, known : (S, K) complex64
    phasors : (S,) complex64
        Phase of every symbol.
    response : (K,) complex64
    matched : (K,) complex64
        Receives the sums of X* Y, phases removed.
    power : (K,) float32
        Receives the sums of \|X\|².

    Returns
    -------
    tuple of float
        Sum of \|Y - H X\|² and of \|H X\|² over the known cells.
    """
    matched[:] = 0
    power[:] = 0
    error, wanted = 0.0, 0.0
    for s in range(data.shape[0]):
        c, d = phasors[s].real, phasors[s].imag
        lost, sent = np.float32(0), np.float32(0)
        for k in range(data.shape[1]):
            x, h, y = known[s, k], response[k], data[s, k]
            real, imaginary = y.real * c + y.imag * d, y.imag * c - y.real * d
            squared = x.real * x.real + x.imag * x.imag
            matched[k] += complex(
                x.real * real + x.imag * imaginary, x.real * imaginary - x.imag * real
            )
            power[k] += squared
            a = h.real * x.real - h.imag * x.imag
            b = h.real * x.imag + h.imag * x.real
            used = np.float32(1) if squared > 0 else np.float32(0)
            lost += used * ((real - a) * (real - a) + (imaginary - b) * (imaginary - b))
            sent += a * a + b * b
        error += lost
        wanted += sent
    return error, wanted
