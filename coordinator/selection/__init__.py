"""One layer's selection as plain arrays: problem, plan, budgets, widths, tables.

What policies take and return; no policy stands here.

- `problem.SelectionProblem`, `problem.SelectionPlan`: problem and plan of one layer
- `layer_problem.layer_problem`: states a layer's problem
- `policy.Policy`: the protocol of policies
- `tables.LayerTables`, `profiled.price_tables`: tables of a layer, made from a profile
- `budget.LayerBudgets`: budgets of all layers
- `precision.Precision`, `widths.Widths`: several widths of vectors
"""
