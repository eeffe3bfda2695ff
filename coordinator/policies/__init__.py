"""Selection policies, each ``select(problem) -> plan``, found by name.

siftmoe and topk stand here, comparisons in `baselines` and `wdmoe`, algorithms in `token`, `batch`,
`certificates` and `loads`.

- `registry.make_policy`: a policy by name and options
- `spec.PolicySpec`: ``NAME:KEY=VALUE`` as written by users
- `setup.prepare_policy`: a policy with its tables and widths
- `siftmoe.SiftMoE`: least energy within a deviation budget
- `topk.TopK`, `topk.TopOne`: routed experts at any energy
- `keeping.plan_keeping`: a plan from the slots to keep, for custom policies
"""
