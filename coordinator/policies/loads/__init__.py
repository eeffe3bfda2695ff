"""Common ground of the algorithms: deviation tables, the load model, hosts.

Turns a problem into tables over ways, and helper sets into a plan.

- `tables.build_tables`, `tables.plan_from_sets`: a problem as tables, a plan from sets
- `model.LoadModel`: energies and capacities of loads
- `hosting.keep_slots`: hosts of kept experts
- `occupancy.current_costs`: marginal costs at given loads
- `effort.Effort`: limits of search and proof
"""
