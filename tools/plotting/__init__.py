"""Figures as SVG; the only room that imports matplotlib.

- `run.figures`: figures of a comparison
- `sounding.sounding_figures`: figures of pilot exchanges
- `mix.draw_mix`: shares of widths over the channel gain
- `profile.draw_profile`: similarity matrices
"""
