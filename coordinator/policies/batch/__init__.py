"""Selection for many tokens whose loads share a window: search, columns, flows, budgets."""
