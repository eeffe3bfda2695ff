"""Placing experts on helpers: who hosts what, replicas included, at least expected energy.

Used before a run; at run time `siftmoe.coordinator.fleet.placement` reads its result from the
testbed file.

- `problem.PlacementProblem`: demand, losses, prices of links, sizes and memories as plain arrays
- `packing.Shelf`: what still fits, so that every expert finds a host
- `greedy.greedy_placement`: submodular greedy, lazily evaluated
- `exchange.exchanged`: swaps that lower the cost further
- `bound.greedy_bound`: lower bound from the gains that are left
- `exact.solve_placement`: the integer program, or its relaxation, by HiGHS
- `testbed.testbed_problem`: the problem of a bundle on a testbed
- `choosing.choose_placement`: all of these in turn, with what is proved
"""
