"""The testbed file: every table and key, read and checked.

A wrong key, value or unit is a `ConfigError` that names the file and the place in it.

- `testbed.load_testbed`: reads a testbed file
- `placed.with_experts`: writes lists of experts into its text
- `entries.Testbed`, `entries.AgentEntry`: its tables
- `radio.RadioEntry`, `radio.SoundingEntry`: the tables ``[radio]`` and ``[sounding]``
"""
