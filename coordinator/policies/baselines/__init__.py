"""Policies for comparison: skipping only, gate prices, DES, widths by the channel.

Each solves a restricted problem with the solver of siftmoe.

- `skipping.SkipOnly`, `skipping.GatePrice`: no replacements
- `des.Des`: a threshold on the kept gate weight
- `channel_width.ChannelWidth`: widths by the channel alone
- `restriction.solve_restricted`: solves a restricted problem
"""
