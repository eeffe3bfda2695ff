"""The air interface: energy of loads, and bursts of both directions.

Prices loads for the selection, and turns a plan's loads into bursts with airtime, power and energy;
under fast fading slot by slot.

- `assembly.air_interface`: the air interface of a testbed's settings
- `prices.AirPrices`: parameters, and energy tables of loads
- `interface.AirInterface`: transmits plans
- `one_band.OneBandAir`: all helpers share one band: broadcast, or unicast by time division
- `slotted.SlottedAir`: the same under fast fading
- `bursts.Bursts`, `bursts.Transfer`: what was transmitted, and the plan that arrived
- `control.control_bits`, `control.header_bits`: what travels beside the vectors
- `protocol.Air`: the protocol that a custom air implements
"""
