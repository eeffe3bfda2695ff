"""States of the links to the helpers: fixed, simulated, replayed.

A source of states is asked with a time and returns gains, noise and bandwidth of all links.

- `states.LinkStates`, `states.Links`: states at one time, and the protocol of sources
- `fixed.FixedLinks`: constant gains
- `simulated.SimulatedLinks`: seeded fading on the virtual clock
- `replayed.ReplayedLinks`: sounded states, drawn again
- `assembly.simulated_links`: links of a testbed's settings
- `distances.distances_of`: distances of helpers from a short text
- `sources.links_of`: links by the name of their source
"""
