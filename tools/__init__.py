"""The ``siftmoe`` command, its reports and studies, and the flashing of boards.

- `cli.main`: entry point of the command
- `commands`: one module per subcommand
- `comparing`: the comparison of policies behind ``loopback`` and ``run``
- `experiments`: studies over settings, policies and seeds
- `results`, `showing`, `plotting`: a run's folder read back; tables and pages; figures
- `watching`: status tables and metrics of running agents
- `flashing`: releases for boards over SSH
- `solving`, `radios`, `installation`: the work of ``solve``, ``radio`` and ``doctor``
- `bundles`: opens a bundle by name or folder
- `terminal`, `interrupts`, `threads`: terminal output, signals, torch's threads
"""
