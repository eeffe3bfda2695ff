"""One expert layer of one step: selected, sent, computed, booked, recovered from faults.

Rounds of selection and dispatch go on until all results have arrived or the deadline is over.

- `serving.LayerRun`: serves one layer
- `parts.Parts`: the parts of a coordinator, with their protocols
- `recovery.remainder`: the problem that failed helpers leave
- `books.selection_row`: ledger rows of a layer
- `audit.audit`: measured deviation against the undivided layer
"""
