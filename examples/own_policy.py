"""A policy of your own, given as an object: a function from a selection problem to a plan.

    python examples/own_policy.py

The same function serves on the command line: in its folder, ``--policy own_policy:thrifty``.
``examples/plugin`` shows a policy with options, installed as a package.
"""

import numpy as np

import siftmoe


def thrifty(problem: siftmoe.SelectionProblem, *, weight: float = 0.3) -> siftmoe.SelectionPlan:
    """Skip a slot if it weighs little and its cheapest host is dearer than the median helper."""
    one_token = problem.energy[:, 1]  # [N], J: energy of a single token on each helper
    dearest = np.where(problem.hosts, one_token[:, None], np.inf).min(axis=0)  # [E]
    dear = dearest > np.median(one_token)  # [E]
    light = problem.gate_weights < weight  # [T, K]
    return siftmoe.plan_keeping(problem, ~(light & dear[problem.routed_experts]))


def main() -> None:
    for policy in ("topk", thrifty):
        with siftmoe.local("upcycled", agents=4, policy=policy) as run:
            perplexity = run.evaluate("perplexity", limit=10).metrics["perplexity"]
        print(f"perplexity {perplexity.value:.2f} ± {perplexity.standard_error:.2f}")
        print(run.table())


if __name__ == "__main__":
    main()
