"""What a run did, in one SQLite file: rows, schema, sums with uncertainties, metrics."""
