"""Agents and runs watched while they work: status rows, live tables, metrics."""
