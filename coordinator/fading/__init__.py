"""Fast fading: least expected energy-to-go over gains that are not known yet.

A dynamic programme over slots, gain states and remaining payload, with reference values.

- `energy_to_go.energy_to_go`, `energy_to_go.EnergyToGo`: the solution of a link
- `gain_states.GainStates`: a gain as a Markov chain
- `reselection.deliver`: a payload sent by the causal rule
- `bounds.offline_energy`, `bounds.truncated_inversion`: references
"""
