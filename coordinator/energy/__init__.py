"""What loads cost: energy tables, shared deadlines, prices of both directions."""
