"""Policies for comparison: skipping only, gate prices, DES, biased routing, widths by the channel.

Each but the biased router solves a restricted problem with the solver of siftmoe.

- `skipping.SkipOnly`, `skipping.GatePrice`: no replacements
- `des.Des`: a threshold on the kept gate weight
- `router_bias.RouterBias`: the router's logits less the price of links
- `channel_width.ChannelWidth`: widths by the channel alone
- `restriction.solve_restricted`: solves a restricted problem
"""
