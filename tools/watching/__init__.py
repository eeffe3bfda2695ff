"""Status of agents, boards and runs: rows, tables, metrics.

- `agents.watching`, `agents.Agents`: asks agents over one connection
- `boards.look_once`: asks agents and boards once
- `table.once`, `table.Screen`: tables of agents
- `metrics.with_metrics`: metrics of a run for Prometheus
"""
