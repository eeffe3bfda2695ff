"""Models of a link: rate and energy, fading, multipath, path loss, ageing of estimates.

Pure functions and frozen dataclasses over numpy arrays, SI and linear units.

- `link.ChannelState`: gain, noise and bandwidth of one direction of a link.
- `link.shannon_rate`, `link.transmit_energy`, `link.payload_capacity`: what a link carries.
- `fading.FadingModel`, `fading.Fading`: small-scale fading, a function of seed, link and time.
- `multipath.AirPath`, `multipath.PathResponse`: a path of several delayed taps.
- `pathloss.path_gain`: mean gain over distance.
- `aging.aged`: predicts a gain from an older estimate.
"""
