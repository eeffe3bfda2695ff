"""One cell of a study: a policy, a setting and a seed, computed and stored.

- `records.Cell`, `records.Setting`, `records.Outcome`: a cell and its result, as plain data
- `emulation.Emulation`: runs a cell in this process
- `knobs.find_knob`: sets a policy's knob to a stated loss
- `probe.Probe`: counts what the ledger has no column for
- `pool.workers`, `worker.Worker`: cells in parallel processes
- `cluster.cluster_workers`: cells on an existing Dask cluster
- `placing.placed_hosts`: who hosts which expert in a cell
- `store.Store`: finished cells on disk
"""
