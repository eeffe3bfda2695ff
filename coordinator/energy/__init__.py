"""Energy of loads: tables, shared deadlines, prices of several widths.

Pure functions over arrays; policies see only the tables.

- `tables.uplink_energy_table`: energy of every load in one direction
- `circuit.least_energy`, `circuit.CircuitPower`: bursts that end early, since circuits take power
- `roundtrip.RoundTrip`: uplink, compute and downlink within one deadline
- `pricing.Pricing`: the table for one width of vectors or several
- `division.divide`: the compiled division of a deadline
- `one_band.OneBand`, `medium.Medium`: bursts of all links in one band; `window` divides it
- `sharing.share_band`: one band divided among the helpers in use
"""
