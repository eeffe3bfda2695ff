"""Results of a run, read back from its folder: figures of policies, soundings, widths.

- `policies.PolicyResult`, `policies.load_results`: the figures of each policy
- `soundings.LinkHistory`, `soundings.load_soundings`: the pilot exchanges of each link
- `width_mix.mix_of`: widths over the channel gain
- `similarity.layer_summary`: figures of a similarity profile
"""
