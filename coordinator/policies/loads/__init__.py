"""What algorithms work on: a problem as tables, the cost of loads, who hosts what."""
