r"""The two settings in SiftMoE's captions, and the deadlines that follow from them for a model.

The paper (arXiv 2603.23888) states bandwidth and deadline of two experiments [S]:

=================  ================  =========  ==========  ============
name               model             vector     bandwidth   deadline
=================  ================  =========  ==========  ============
``mixtral-csqa``   Mixtral           4096 x 16  2 MHz       0.074 s
``switch-xsum``    switch-base-8     768 x 16   1 MHz       0.7 s
=================  ================  =========  ==========  ============

It does not say whether a deadline is that of a token or that of a layer for the whole prompt. Both
can be asked for (``deadline_per``), and both are our reading [D]: per token the two settings are
0.44 and 0.018 bit/s/Hz, 25 times apart; per layer they depend on the length of the prompt.

A model with another hidden size keeps the spectral efficiency of a token,

.. math:: \beta = \frac{b}{B\,T}, \qquad T' = \frac{b'}{B'\,\beta} ,

with b bits of the vector, bandwidth B and deadline T. The energy of a bit is then the same.
"""

from __future__ import annotations

from dataclasses import dataclass

#: Width of the entries that the paper counts.
REFERENCE_WIDTH = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class OperatingPoint:
    """Model, bandwidth and deadline of one of the paper's experiments.

    Parameters
    ----------
    name : str
    hidden_size : int
    bandwidth_hz : float, Hz
    deadline_s : float, s
    words : str
        The experiment.
    """

    name: str
    hidden_size: int
    bandwidth_hz: float
    deadline_s: float
    words: str

    @property
    def bits_per_hertz(self) -> float:
        """Spectral efficiency if the deadline is that of a single token, bit/s/Hz."""
        return self.hidden_size * REFERENCE_WIDTH / (self.bandwidth_hz * self.deadline_s)


MIXTRAL_CSQA = OperatingPoint(
    name="mixtral-csqa",
    hidden_size=4096,
    bandwidth_hz=2e6,
    deadline_s=0.074,
    words="Mixtral on CommonsenseQA",
)
SWITCH_XSUM = OperatingPoint(
    name="switch-xsum",
    hidden_size=768,
    bandwidth_hz=1e6,
    deadline_s=0.7,
    words="switch-base-8 on XSum",
)
OPERATING_POINTS = {point.name: point for point in (MIXTRAL_CSQA, SWITCH_XSUM)}


def point_near(bits_per_hertz: float) -> OperatingPoint | None:
    """Return the setting with this efficiency of a token, to 1 %; None if neither has it."""
    for point in OPERATING_POINTS.values():
        if abs(bits_per_hertz / point.bits_per_hertz - 1.0) < 0.01:
            return point
    return None
