"""Draws the figures of pilot exchanges: gains and SNR over time, frequency response, spread."""

from __future__ import annotations

import io
from functools import partial
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np

from siftmoe.radio.sounding import pilots
from siftmoe.tools.plotting.run import COLOURS, NO_METADATA, STYLE

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from siftmoe.tools.results.soundings import LinkHistory

CAPTIONS = {
    "gain.svg": "Path gain of each link as sounded, with one standard uncertainty (power "
    "calibration included); crosses: pilots not heard. Solid up, dashed down.",
    "snr.svg": "SNR of the pilots in the sample rate.",
    "response.svg": "Path gain over the carriers, of each link's last sounding.",
    "spread.svg": "Deviation of the sounded gains from each link's median, cumulative: fading and "
    "estimation together.",
}
_LINES = {"up": "-", "down": "--"}


def sounding_figures(
    histories: Sequence[LinkHistory], *, sample_rate_hz: float | None = None
) -> dict[str, str]:
    """Draw the figures of a run's pilot exchanges; none if no pilot was detected.

    Parameters
    ----------
    histories : sequence of LinkHistory
    sample_rate_hz : float or None, Hz
        Of the pilots; without it carriers are drawn by number.

    Returns
    -------
    dict
        File name to SVG text.
    """
    heard = [link for link in histories if len(link.time_s)]
    if not heard:
        return {}
    return {
        "gain.svg": _draw(_gain, histories),
        "snr.svg": _draw(_snr, heard),
        "response.svg": _draw(partial(_response, sample_rate_hz=sample_rate_hz), heard),
        "spread.svg": _draw(_spread, heard),
    }


def _draw(plot: Callable[..., None], histories: Sequence[LinkHistory]) -> str:
    with mpl.rc_context(STYLE):
        figure, axes = plt.subplots(figsize=(5.2, 3.2))
        agents = sorted({link.agent for link in histories})
        for link in histories:
            colour = COLOURS[agents.index(link.agent) % len(COLOURS)]
            plot(axes, link, color=colour, linestyle=_LINES[link.direction])
        handles = [
            plt.Line2D([], [], color=COLOURS[i % len(COLOURS)], label=agent)
            for i, agent in enumerate(agents)
        ]
        axes.legend(handles=handles, loc="best", fontsize=7)
        text = io.StringIO()
        figure.savefig(text, format="svg", metadata=NO_METADATA)
        plt.close(figure)
    return text.getvalue()


def _db(power: Any) -> Any:
    return 10.0 * np.log10(power)


def _gain(axes: Any, link: LinkHistory, **style: Any) -> None:
    low = np.maximum(link.gain - link.gain_std, 0.1 * link.gain)
    axes.plot(link.time_s, _db(link.gain), linewidth=1.0, marker=".", markersize=3, **style)
    axes.fill_between(
        link.time_s,
        _db(low),
        _db(link.gain + link.gain_std),
        color=style["color"],
        alpha=0.06,
        linewidth=0,
    )
    if len(link.missed_s):
        floor = 0.02 if link.direction == "up" else 0.06
        axes.plot(
            link.missed_s,
            np.full(len(link.missed_s), floor),
            linestyle="none",
            marker="x",
            markersize=4,
            color=style["color"],
            transform=axes.get_xaxis_transform(),
        )
    axes.set(xlabel="time, s", ylabel="path gain, dB")


def _snr(axes: Any, link: LinkHistory, **style: Any) -> None:
    axes.plot(link.time_s, _db(link.snr), linewidth=1.0, **style)
    axes.set(xlabel="time, s", ylabel="SNR, dB")


def _response(axes: Any, link: LinkHistory, *, sample_rate_hz: float | None, **style: Any) -> None:
    if len(link.response) != pilots.USED_CARRIERS:
        return
    spacing_khz = 1.0 if sample_rate_hz is None else sample_rate_hz / pilots.FFT_SIZE / 1e3
    offset = spacing_khz * pilots.carriers()
    axes.plot(offset, _db(np.abs(link.response) ** 2), linewidth=1.0, **style)
    label = "carrier, number" if sample_rate_hz is None else "frequency over the carrier, kHz"
    axes.set(xlabel=label, ylabel="path gain, dB")


def _spread(axes: Any, link: LinkHistory, **style: Any) -> None:
    deviation = np.sort(_db(link.gain / np.median(link.gain)))
    share = (np.arange(len(deviation)) + 0.5) / len(deviation)
    axes.plot(deviation, share, linewidth=1.0, drawstyle="steps-mid", **style)
    axes.set(xlabel="gain over its median, dB", ylabel="share of soundings")
