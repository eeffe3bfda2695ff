"""One layer's selection as plain arrays: problem, plan, budgets, widths, what is known."""
