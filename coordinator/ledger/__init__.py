"""The ledger: one SQLite file per experiment with every step, selection and transmission.

Rows are frozen dataclasses; sums keep sources apart and carry standard uncertainties.

- `store.Ledger`: creates, resumes and writes a ledger
- `reading.LedgerReader`: its queries
- `rows.StepRow`, `rows.SelectionRow`, `rows.TransmissionRow`, …: the rows
- `summary.Summary`: sums over a run
- `parts.EnergyPart`: energy by use, owner and source
- `energy.Quantity`: a value and its standard uncertainty
- `metrics.LedgerMetrics`: Prometheus metrics of a growing ledger
"""
