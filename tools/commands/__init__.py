"""The subcommands of ``siftmoe``: one module each.

A module declares the options of its subcommand, makes one call into another room, and prints the
result. `siftmoe.tools.cli` has the list of subcommands.

- `loopback`, `run`: the main job on this machine and on a testbed
- `prepare`, `profile`: bundles
- `place`: who hosts which expert
- `solve`, `experiment`: selection instances and studies
- `ledger`, `report`: a run's energy and its report
- `agent`, `doctor`: an agent; the installation on this machine
- `boards`, `radio`: subcommands for boards and radios
- `arguments`: options that several subcommands share
"""
