"""The process on a board: it hosts experts of a bundle and computes them on request.

It runs without torch. Coordinators use its messages, errors and settings; nothing else of it.

- `config.AgentConfig`: settings of an agent; `config.select_experts`: which experts it hosts
- `errors`: the tree of errors, with their codes on the wire
- `wire.protocol`: messages to frames and back
- `process.launch`: an agent started as a process of its own
- `process.command`: the command line ``siftmoe agent``
"""
