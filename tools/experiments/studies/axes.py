"""Losses at which studies compare policies, and axes that several figures share."""

from __future__ import annotations

from typing import Any

#: Rises of perplexity at which energies are compared, and to which prices are set.
LOSSES = (0.01, 0.025, 0.05, 0.10)
#: Loss for comparisons at a single loss.
USUAL_LOSS = 0.025

PERCENT: dict[str, Any] = {
    "x": "perplexity_rise",
    "x_label": "rise of perplexity over Top-K / %",
    "x_scale": 100.0,
    "x_max": 25.0,
}
ENERGY: dict[str, Any] = {
    "y": "radio_j",
    "y_label": "energy of both directions per token / J",
    "log_y": True,
}
#: Of the same seed's reference: paired, so that the channel's spread between seeds is not in it.
RELATIVE: dict[str, Any] = {
    "y": "relative",
    "y_label": "energy of both directions over Top-K's / %",
    "y_scale": 100.0,
    "log_y": True,
}
SAVED: dict[str, Any] = {
    "y": "saved",
    "y_label": "energy of both directions saved / %",
    "y_scale": 100.0,
}
