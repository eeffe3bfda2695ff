"""Random selection instances in the schema of ``siftmoe solve``, and what judges a solution.

The judge shares no code with the policies: deviations, energies and capacities are recomputed
from the raw figures.
"""

from __future__ import annotations

import json
import math
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import lil_array

from siftmoe.tools.solving.instance_file import SelectionInstance, parse_instance, selection_problem

if TYPE_CHECKING:
    from siftmoe.coordinator.selection.problem import SelectionProblem

Raw = dict[str, Any]


def make_instance(
    rng: np.random.Generator,
    *,
    tokens: int,
    experts: int,
    slots: int,
    helpers: int,
    share: float = 0.5,
    replicas: int = 2,
    local: float = 0.05,
    power_w: float = 2.0,
    spectral: float = 2.0,
) -> Raw:
    """Experts with log-normal norms in similar families, Rayleigh links with path loss.

    ``share`` is the cap as a share of the mean deviation of skipping everything, ``spectral``
    the bit/s/Hz at which one helper would serve all tokens.
    """
    norm = np.exp(0.4 * rng.normal(size=experts))
    family = rng.normal(size=(max(1, experts // 4), 16))
    direction = family[rng.integers(len(family), size=experts)] + rng.normal(size=(experts, 16))
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    outputs = norm[:, None] * direction
    deviation = np.linalg.norm(outputs[:, None] - outputs[None], axis=2)
    routed = np.stack([rng.permutation(experts)[:slots] for _ in range(tokens)])
    gates = np.sort(rng.dirichlet(np.full(slots, 4.0), size=tokens), axis=1)[:, ::-1]
    if slots == 1:
        gates = rng.uniform(0.2, 0.7, size=(tokens, 1))
    hosts = [
        [-1] if rng.random() < local else rng.permutation(helpers)[:replicas].tolist()
        for _ in range(experts)
    ]
    return {
        "family": "a" if tokens == 1 else "b1" if slots == 1 else "b2",
        "E": experts,
        "K": slots,
        "N": helpers,
        "M": tokens,
        "n0": 4e-21,
        "bits": 65536,
        "T": tokens * 65536 / (2e6 * spectral),
        "B": [2e6] * helpers,
        "gain": (10 ** rng.uniform(-10, -8, helpers) * rng.exponential(size=helpers)).tolist(),
        "pmax": power_w,
        "host": hosts,
        "idx": routed.tolist(),
        "g": gates.tolist(),
        "F": deviation.tolist(),
        "Fskip": norm.tolist(),
        "eps": share * float(np.mean((gates * norm[routed]).sum(axis=1))),
    }


def tighten_power(raw: Raw, rng: np.random.Generator, *, ease: float) -> Raw:
    """Cut the power limit so that the helpers together carry about ``ease`` times the slots."""
    low, high = 1e-12, 1e3
    for _ in range(80):
        middle = math.sqrt(low * high)
        carried = int(capacities({**raw, "pmax": middle}).sum())
        low, high = (middle, high) if carried < ease * raw["M"] * raw["K"] else (low, middle)
    return {**raw, "pmax": high * float(rng.uniform(1.0, 1.5))}


def as_problem(raw: Raw) -> SelectionProblem:
    """The way a file goes: through JSON, the reader and its checks."""
    instance = parse_instance(json.dumps(raw).encode(), name="generated")
    assert isinstance(instance, SelectionInstance)
    return selection_problem(instance)


def energies(raw: Raw, load: int) -> np.ndarray:
    band, gain = np.array(raw["B"]), np.array(raw["gain"])
    exponent = load * raw["bits"] / (band * raw["T"])
    return raw["T"] * raw["n0"] * band / gain * (2.0**exponent - 1.0)


def capacities(raw: Raw) -> np.ndarray:
    band, gain = np.array(raw["B"]), np.array(raw["gain"])
    rate = band * np.log2(1.0 + raw["pmax"] * gain / (raw["n0"] * band))
    return np.minimum(np.floor(rate * raw["T"] / raw["bits"] + 1e-12), raw["M"]).astype(int)


def slot_options(raw: Raw) -> tuple[np.ndarray, np.ndarray]:
    """Deviation of each slot by helper (M, K, N) and without one (M, K)."""
    served = np.full((raw["M"], raw["K"], raw["N"]), np.inf)
    alone = np.empty((raw["M"], raw["K"]))
    for t in range(raw["M"]):
        for i in range(raw["K"]):
            expert, gate = raw["idx"][t][i], raw["g"][t][i]
            alone[t, i] = gate * raw["Fskip"][expert]
            for j, where in enumerate(raw["host"]):
                value = gate * raw["F"][expert][j]
                for n in where:
                    if n < 0:
                        alone[t, i] = min(alone[t, i], value)
                    else:
                        served[t, i, n] = min(served[t, i, n], value)
    return np.minimum(served, alone[:, :, None]), alone


def deviation_of(served: np.ndarray, alone: np.ndarray, members: list[int]) -> float:
    """Deviation of one token under a helper set; served (K, N), alone (K,)."""
    if not members:
        return float(alone.sum())
    return float(np.minimum(alone, served[:, members].min(axis=1)).sum())


def judge(raw: Raw, sets: list[list[int]], *, cap: float | None = None) -> float:
    """Energy of helper sets, J; fails if a cap or a capacity is broken."""
    served, alone = slot_options(raw)
    loads = np.zeros(raw["N"], dtype=int)
    limit = raw["eps"] if cap is None else cap
    for t, members in enumerate(sets):
        assert deviation_of(served[t], alone[t], members) <= limit * (1 + 1e-9) + 1e-12
        loads[members] += 1
    assert (loads <= capacities(raw)).all()
    return float(sum(energies(raw, q)[n] for n, q in enumerate(loads)))


def minimal_sets(served: np.ndarray, alone: np.ndarray, cap: float) -> list[tuple[int, ...]]:
    """Every feasible set of one token from which no member can be left out."""
    found: list[tuple[int, ...]] = []
    for size in range(served.shape[0] + 1):
        for members in combinations(range(served.shape[1]), size):
            if any(set(smaller) <= set(members) for smaller in found):
                continue
            if deviation_of(served, alone, list(members)) <= cap + 1e-12 * (1 + cap):
                found.append(members)
    return found


def milp_optimum(raw: Raw) -> float:
    """Proven optimum of an instance by HiGHS over all minimal sets; infinite if infeasible."""
    served, alone = slot_options(raw)
    columns = [
        (t, members)
        for t in range(raw["M"])
        for members in minimal_sets(served[t], alone[t], raw["eps"])
    ]
    capacity = capacities(raw)
    table = np.stack([energies(raw, q) for q in range(raw["M"] + 1)], axis=1)
    steps = [(n, q) for n in range(raw["N"]) for q in range(capacity[n])]
    rows = lil_array((raw["M"] + raw["N"], len(columns) + len(steps)))
    for k, (t, members) in enumerate(columns):
        rows[t, k] = 1.0
        for n in members:
            rows[raw["M"] + n, k] = 1.0
    for k, (n, _) in enumerate(steps):
        rows[raw["M"] + n, len(columns) + k] = -1.0
    marginal = np.array([table[n, q + 1] - table[n, q] for n, q in steps])
    kinds = np.concatenate([np.ones(len(columns)), np.zeros(len(steps))])
    total = np.concatenate([np.ones(raw["M"]), np.zeros(raw["N"])])
    # a load whose first token costs more than any plan would spoil the scaling
    unit = float(np.median(table[:, 1])) if len(steps) else 1.0
    found = milp(
        np.concatenate([np.zeros(len(columns)), marginal / unit]),
        integrality=kinds,
        bounds=Bounds(0, 1),
        constraints=LinearConstraint(rows.tocsr(), total, total),
        options={"mip_rel_gap": 0.0},
    )
    assert found.status in (0, 2), found.message
    return float(found.fun * unit) if found.status == 0 else math.inf
