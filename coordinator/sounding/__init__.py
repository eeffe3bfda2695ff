"""Channel states from pilot exchanges with agents.

Sounds links when they are due, remembers them in between, and books every exchange.

- `channel.open_channel`: the links and clock of a testbed
- `links.SoundedLinks`: states of sounded links
- `exchange.PilotExchanges`: exchanges between radios
- `results.Sounded`: estimate of one exchange, or its failure
- `memory.LinkMemory`, `reciprocity.Reciprocity`: one link between soundings
"""
