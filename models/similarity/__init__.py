"""The profile of a bundle: measured similarity of its experts, and its file. Needs no torch.

A profile says what it costs to serve a token by another expert, or by none, at each bit width.

- `quantities.DIMENSIONS`, `quantities.Estimate`: the measured arrays with their standard errors.
- `calibration.Calibration`: text, sample and widths of the measurement.
- `profile.Profile`: the profile; `profile.Profile.price`: expected loss of an option.
- `file.read_profile`, `file.write_profile`: the profile in a bundle.
"""
