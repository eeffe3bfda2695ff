r"""Simulated small-scale fading.

Every process is a pure function of (seed, link, time): it can be evaluated at any time, in any
order and repeatedly, with the same result. The responses have unit mean power, so that a link's
gain is its path gain times :math:`|h(t)|^2`:

.. math:: h(t) = \sqrt{\frac{K}{K+1}}\, e^{j\phi} + \sqrt{\frac{1}{K+1}}\, w(t)

with the Rician factor :math:`K` (0: Rayleigh), a phase :math:`\phi` that is fixed per link, and a
diffuse part :math:`w(t) \sim CN(0, 1)` that is one of the processes below. All of them take a
*coherence time*: for block fading the length of a block, for the correlated ones the lag at which
the correlation of the gain :math:`|w|^2` has fallen to one half.

A Rayleigh link has :math:`E[1/g] = \infty`: average energies over it do not converge. A
``gain_floor`` f replaces g by max(g, f), which is no longer Rayleigh (its mean is
:math:`f + e^{-f}`); it is 0 unless asked for.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from enum import Enum
from functools import lru_cache
from typing import TYPE_CHECKING, Protocol

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    FloatArray = NDArray[np.float64]
    ComplexArray = NDArray[np.complex128]
    IntArray = NDArray[np.int64]

#: Doppler times coherence time where J0(2 pi f T)^2 = 1/2: the usual 9/(16 pi) (Rappaport,
#: Wireless Communications, 5.4.3) rounds the root 1.1264 of J0(x)^2 = 1/2 to 1.125.
DOPPLER_TIMES_COHERENCE = 9.0 / (16.0 * math.pi)
#: Sinusoids of a Jakes process. E|w|^4 is 2 - 1/M instead of the Gaussian 2.
JAKES_PATHS = 64
#: Steps of a Gauss-Markov process in one coherence time.
GAUSS_MARKOV_STEPS = 16
#: Memory of the Gauss-Markov process: correlation that is cut off.
GAUSS_MARKOV_TAIL = 1e-6
#: Steps that one counter block of the generator serves.
_CHUNK = 256

# Streams of one link, so that its phase does not move when a process draws more.
_DIFFUSE, _SPECULAR = 0, 1


class FadingKind(str, Enum):
    """How the diffuse part changes with time."""

    #: no fading: the response is 1.
    STATIC = "static"
    #: constant over a coherence time, then drawn anew.
    BLOCK = "block"
    #: Clarke's isotropic scattering; autocorrelation J0.
    JAKES = "jakes"
    #: first-order autoregressive; autocorrelation exponential.
    GAUSS_MARKOV = "gauss-markov"


class DiffuseProcess(Protocol):
    """A stationary process of unit power that can be evaluated at any time."""

    def response(self, time_s: ArrayLike) -> ComplexArray:
        """Complex response at the given times, of the shape of ``time_s``."""
        ...


def stream_key(*, seed: int, link: int, stream: int = 0) -> int:
    """128-bit key of a random stream; distinct arguments give independent streams.

    Raises
    ------
    ValueError
        If seed or link is negative.
    """
    if seed < 0 or link < 0:
        raise ValueError(f"fading: seed and link must not be negative, got {seed} and {link}")
    low, high = np.random.SeedSequence((seed, link, stream)).generate_state(2, np.uint64)
    return int(low) | int(high) << 64


def _generator(key: int, block: int = 0) -> np.random.Generator:
    # Philox is counter-based: block b of a stream is there without drawing the blocks before it.
    return np.random.Generator(np.random.Philox(key=key, counter=(block % 2**64) << 64))


@lru_cache(maxsize=2048)
def _complex_normal(key: int, block: int, size: int) -> ComplexArray:
    # A pure function, kept because a clock that moves in small steps asks for the same block.
    pairs = _generator(key, block).standard_normal((size, 2)) / math.sqrt(2.0)
    draws = np.asarray(pairs.view(np.complex128)[:, 0])
    draws.setflags(write=False)
    return draws


def stream_generator(*, seed: int, link: int, stream: int, block: int) -> np.random.Generator:
    """Make the generator of one block of a stream; fading itself uses streams 0 and 1."""
    return _generator(stream_key(seed=seed, link=link, stream=stream), block)


def _times(time_s: ArrayLike) -> FloatArray:
    times = np.asarray(time_s, dtype=np.float64)
    if not np.all(np.isfinite(times)):
        raise ValueError(f"fading: times must be finite, got {time_s!r}")
    return times


def _step_index(time_s: ArrayLike, step_s: float) -> IntArray:
    index: IntArray = np.floor(_times(time_s) / step_s).astype(np.int64)
    return index


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockProcess:
    """CN(0, 1), drawn independently for every block of ``coherence_time_s``."""

    key: int
    coherence_time_s: float

    def response(self, time_s: ArrayLike) -> ComplexArray:
        """Response in the block of each time."""
        blocks = _step_index(time_s, self.coherence_time_s)
        if blocks.ndim == 0:  # a clock asks for one time after the other
            return np.asarray(_complex_normal(self.key, int(blocks), 1)[0])
        wanted, inverse = np.unique(blocks, return_inverse=True)
        draws = [_complex_normal(self.key, int(block), 1)[0] for block in wanted]
        return np.array(draws, dtype=np.complex128)[inverse].reshape(blocks.shape)


@dataclass(frozen=True, slots=True, kw_only=True)
class JakesProcess:
    r"""Sum of sinusoids with Clarke's Doppler spectrum.

    .. math:: w(t) = \frac{1}{\sqrt M} \sum_{m=1}^{M}
              e^{j (2 \pi f_d \cos(\alpha_m) t + \phi_m)}, \qquad
              \alpha_m = \frac{2 \pi (m + u_m)}{M}

    with independent uniform :math:`\phi_m` and :math:`u_m`. The autocorrelation over links is
    exactly :math:`J_0(2 \pi f_d \tau)`; stratified angles keep the time average of a single link
    close to it (Zheng and Xiao, IEEE Trans. Commun. 51(6), 2003).
    """

    key: int
    coherence_time_s: float
    _doppler: FloatArray = field(init=False, repr=False, compare=False)
    _phase: FloatArray = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        rng = _generator(self.key)
        jitter, phase = rng.random((2, JAKES_PATHS))
        angle = 2.0 * math.pi * (np.arange(JAKES_PATHS) + jitter) / JAKES_PATHS
        doppler = 2.0 * math.pi * doppler_hz(self.coherence_time_s) * np.cos(angle)
        object.__setattr__(self, "_doppler", doppler)
        object.__setattr__(self, "_phase", 2.0 * math.pi * phase)

    def response(self, time_s: ArrayLike) -> ComplexArray:
        """Response at any time; continuous."""
        angle = _times(time_s)[..., np.newaxis] * self._doppler + self._phase  # [..., M]
        response: ComplexArray = np.exp(1j * angle).sum(axis=-1) / math.sqrt(JAKES_PATHS)
        return np.asarray(response)


@dataclass(frozen=True, slots=True, kw_only=True)
class GaussMarkovProcess:
    r"""First-order autoregressive process in steps of a sixteenth of the coherence time.

    .. math:: w_k = \rho w_{k-1} + \sqrt{1 - \rho^2}\, z_k, \qquad \rho = 2^{-1/(2 \cdot 16)}

    The recursion is written out as a moving average over the draws :math:`z_{k-i}` with
    :math:`\rho^i` above ``GAUSS_MARKOV_TAIL``: so it can be evaluated at any time, is stationary
    from the start and has unit power. Between steps the response is constant.
    """

    key: int
    coherence_time_s: float

    def response(self, time_s: ArrayLike) -> ComplexArray:
        """Response in the step of each time.

        The cost is the span of the times in steps times the memory of the process, 638 steps:
        evaluate long spans piecewise.
        """
        steps = _step_index(time_s, self.coherence_time_s / GAUSS_MARKOV_STEPS)
        kernel = _gauss_markov_kernel()
        if not steps.size:
            return np.zeros(steps.shape, dtype=np.complex128)
        first = int(steps.min())
        draws = self._draws(first - len(kernel) + 1, int(steps.max()) + 1)
        series = np.convolve(draws, kernel, mode="valid")
        return np.asarray(series[steps - first])

    def _draws(self, start: int, stop: int) -> ComplexArray:
        chunks = range(start // _CHUNK, (stop - 1) // _CHUNK + 1)
        draws = np.concatenate([_complex_normal(self.key, c, _CHUNK) for c in chunks])
        return draws[start - chunks[0] * _CHUNK : stop - chunks[0] * _CHUNK]


@lru_cache(maxsize=1)
def _gauss_markov_kernel() -> FloatArray:
    rho = 2.0 ** (-1.0 / (2 * GAUSS_MARKOV_STEPS))
    memory = math.ceil(math.log(GAUSS_MARKOV_TAIL) / math.log(rho))
    kernel = rho ** np.arange(memory, dtype=np.float64)
    return np.asarray(kernel / np.linalg.norm(kernel))


_PROCESSES: dict[FadingKind, type[BlockProcess | JakesProcess | GaussMarkovProcess]] = {
    FadingKind.BLOCK: BlockProcess,
    FadingKind.JAKES: JakesProcess,
    FadingKind.GAUSS_MARKOV: GaussMarkovProcess,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Fading:
    """The fading of one link: a specular and a diffuse part.

    ``FadingModel.link`` makes it; ``diffuse`` is None for a static link.
    """

    diffuse: DiffuseProcess | None
    rician_k: float
    specular: complex
    gain_floor: float

    def response(self, time_s: ArrayLike) -> ComplexArray:
        """Complex response h(t) of unit mean power, of the shape of ``time_s``."""
        if self.diffuse is None:
            return np.ones(_times(time_s).shape, dtype=np.complex128)
        scatter = math.sqrt(1.0 / (self.rician_k + 1.0))
        direct = self.specular * math.sqrt(self.rician_k / (self.rician_k + 1.0))
        return np.asarray(direct + scatter * self.diffuse.response(time_s))

    def gain(self, time_s: ArrayLike) -> FloatArray:
        """Power gain max(|h(t)|^2, gain_floor), linear, of the shape of ``time_s``."""
        response = self.response(time_s)
        power = response.real**2 + response.imag**2
        return np.asarray(np.maximum(power, self.gain_floor))


@dataclass(frozen=True, slots=True, kw_only=True)
class FadingModel:
    """Statistics of the fading of a simulation's links.

    Parameters
    ----------
    kind : FadingKind
    coherence_time_s : float, s
        Length of a block, or lag of gain correlation one half.
    rician_k : float
        Power of the specular over the diffuse part, linear; 0 is Rayleigh.
    gain_floor : float
        Gains below it are raised to it, relative to the mean gain; 0 changes nothing.
    """

    kind: FadingKind = FadingKind.BLOCK
    coherence_time_s: float = 0.1
    rician_k: float = 0.0
    gain_floor: float = 0.0

    def __post_init__(self) -> None:
        if not (self.coherence_time_s > 0.0 and math.isfinite(self.coherence_time_s)):
            raise ValueError(
                f"fading: coherence_time_s must be positive and finite, got {self.coherence_time_s}"
            )
        for name in ("rician_k", "gain_floor"):
            value = getattr(self, name)
            if not (value >= 0.0 and math.isfinite(value)):
                raise ValueError(f"fading: {name} must be finite and not negative, got {value}")

    def link(self, index: int, *, seed: int) -> Fading:
        """Fading of link ``index``; different links and seeds fade independently."""
        diffuse: DiffuseProcess | None = None
        if self.kind is not FadingKind.STATIC:
            key = stream_key(seed=seed, link=index, stream=_DIFFUSE)
            diffuse = _PROCESSES[self.kind](key=key, coherence_time_s=self.coherence_time_s)
        turn = _generator(stream_key(seed=seed, link=index, stream=_SPECULAR)).random()
        return Fading(
            diffuse=diffuse,
            rician_k=self.rician_k,
            specular=complex(np.exp(2j * math.pi * turn)),
            gain_floor=self.gain_floor,
        )


def doppler_hz(coherence_time_s: float) -> float:
    """Largest Doppler shift of a Jakes process with this coherence time, Hz."""
    return DOPPLER_TIMES_COHERENCE / coherence_time_s
