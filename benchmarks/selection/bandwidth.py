"""Time of the exact bandwidth division beside SciPy's SLSQP, and the difference of their results.

Run: ``python -m benchmarks.selection.bandwidth``
"""

from __future__ import annotations

import argparse
import json
import time
from typing import Any

import numpy as np
from scipy.optimize import minimize

from siftmoe.coordinator.policies.wdmoe.bandwidth import allocate_bandwidth, token_latency


def make_case(devices: int, rng: np.random.Generator) -> dict[str, Any]:
    """Random devices behind one base station."""
    return {
        "tokens": rng.integers(1, 60, devices).astype(np.float64),
        "compute_s": rng.uniform(2e-5, 3e-4, devices),
        "downlink_bits": 65536.0,
        "uplink_bits": 65536.0,
        "downlink_power_w": np.full(devices, 5.0),
        "downlink_gain": 1e-8 * rng.exponential(size=devices),
        "uplink_power_w": np.full(devices, 0.2),
        "uplink_gain": 1e-8 * rng.exponential(size=devices),
        "noise_psd": 4e-21,
        "bandwidth_hz": 2e7,
    }


def slsqp(case: dict[str, Any]) -> float:
    """Return the latency that a general solver finds: min t s.t. t_k(B_k) <= t, sum B_k = B."""
    total, loads = case["bandwidth_hz"], case["tokens"]
    fixed = {k: v for k, v in case.items() if k not in ("tokens", "bandwidth_hz")}
    devices = len(loads)
    snr = [
        case["downlink_power_w"] * case["downlink_gain"] / case["noise_psd"],
        case["uplink_power_w"] * case["uplink_gain"] / case["noise_psd"],
    ]
    bits = [case["downlink_bits"], case["uplink_bits"]]
    scale = float(
        (loads * token_latency(**fixed, bandwidth_hz=np.full(devices, total / devices))).max()
    )

    def slack(x: np.ndarray) -> np.ndarray:
        band = x[:-1] * total
        seconds = case["compute_s"] + sum(
            b / (band * np.log2(1 + s / band)) for b, s in zip(bits, snr, strict=True)
        )
        return x[-1] - loads * seconds / scale

    def slope(x: np.ndarray) -> np.ndarray:
        band = x[:-1] * total
        change = 0.0
        for b, s in zip(bits, snr, strict=True):
            rate = band * np.log2(1 + s / band)
            growth = np.log2(1 + s / band) - s / band / (1 + s / band) / np.log(2)
            change = change - b * growth / rate**2
        return np.hstack((np.diag(-loads * change * total / scale), np.ones((devices, 1))))

    result = minimize(
        lambda x: x[-1],
        x0=np.append(np.full(devices, 1 / devices), 1.0),
        jac=lambda x: np.append(np.zeros(devices), 1.0),
        bounds=[(1e-6, 1.0)] * devices + [(0.0, None)],
        constraints=[
            {"type": "ineq", "fun": slack, "jac": slope},
            {
                "type": "eq",
                "fun": lambda x: x[:-1].sum() - 1.0,
                "jac": lambda x: np.append(np.ones(devices), 0.0),
            },
        ],
        method="SLSQP",
        options={"ftol": 1e-14, "maxiter": 500},
    )
    return float(result.fun) * scale


def measure(devices: int, *, cases: int, seed: int) -> dict[str, float]:
    """Median times over cases, and the extremes of SLSQP's excess latency."""
    rng = np.random.default_rng(seed)
    ours, theirs, excess = [], [], []
    for _ in range(cases):
        case = make_case(devices, rng)
        latency, _ = allocate_bandwidth(**case)
        repeats = 50
        start = time.perf_counter()
        for _ in range(repeats):
            allocate_bandwidth(**case)
        ours.append((time.perf_counter() - start) / repeats)
        start = time.perf_counter()
        other = slsqp(case)
        theirs.append(time.perf_counter() - start)
        excess.append(other / latency - 1.0)
    return {
        "devices": devices,
        "ours_us": 1e6 * float(np.median(ours)),
        "slsqp_us": 1e6 * float(np.median(theirs)),
        "excess_min": min(excess),
        "excess_max": max(excess),
    }


def main() -> None:
    """Print a table, or JSON lines."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    if not arguments.json:
        print(f"{'devices':>8} {'ours us':>10} {'SLSQP us':>10}   SLSQP/ours - 1")
    for devices in (4, 8, 64):
        row = measure(devices, cases=arguments.cases, seed=arguments.seed)
        if arguments.json:
            print(json.dumps(row))
        else:
            print(
                f"{devices:8d} {row['ours_us']:10.0f} {row['slsqp_us']:10.0f}   "
                f"{row['excess_min']:.1e} .. {row['excess_max']:.1e}"
            )


if __name__ == "__main__":
    main()
