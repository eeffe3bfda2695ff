"""Selection instances on disk and their solution: the work of ``siftmoe solve``.

Instances are JSON files; a policy solves them, with proof of the optimum where it can.

- `instance_file.read_instance`, `instance_file.selection_problem`: reads an instance file
- `policy.solving_policy`: makes the policy, with the limits of its proof
- `solver.solve`: solves one instance
- `warm_up.warm_up`: loads compiled code before the first timed instance
"""
