r"""Reads selection instances: one JSON object per file.

Families ``a`` (one token), ``b1`` (many tokens, one slot) and ``b2`` (many tokens, more slots)
ask for helper sets of least uplink energy under a deviation cap per token:

=================  ======================================================================
``E K N M``        experts, slots of a token, helpers, tokens
``n0 bits T``      noise density (W/Hz), payload of a token (bit), deadline (s)
``B gain pmax``    bandwidth (Hz) and power gain of each helper's link, power limit (W)
``host``           for each expert the helpers that hold it, -1 for the user's own device
``idx g``          each token's routed experts and gate weights
``F Fskip eps``    deviation of replacing and of skipping each expert, the cap; instead of
                   ``F`` the rows ``F_row_ids`` may be given as ``F_rows``
=================  ======================================================================

Families ``bc`` and ``bp`` are of a broadcast: one band ``B`` (a number, Hz) and one window ``T``
for all tokens; a token that is sent is heard by every helper whose gain is at least that of the
worst one it is meant for. ``bc`` has a cap ``eps`` per token, ``bp`` instead a price ``lam`` (joule
per unit of deviation), and its objective is energy plus priced deviation.

Family ``w`` asks for the division of a band ``B`` among devices with ``q`` tokens, ``c`` seconds
of compute per token, ``sd`` and ``su`` bits down and up, powers ``Pb`` and ``Pk`` and gains ``gd``
and ``gu``, so that the slowest is fastest. Other keys are ignored.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import msgspec

if TYPE_CHECKING:
    from siftmoe.coordinator.selection.problem import SelectionProblem

Count = Annotated[int, msgspec.Meta(ge=1)]
Index = Annotated[int, msgspec.Meta(ge=0)]
Positive = Annotated[float, msgspec.Meta(gt=0)]
Nonnegative = Annotated[float, msgspec.Meta(ge=0)]


class SetsInstance(msgspec.Struct, frozen=True, kw_only=True):
    """What the families that ask for helper sets have in common."""

    family: str
    num_experts: Count = msgspec.field(name="E")
    top_k: Count = msgspec.field(name="K")
    num_helpers: Count = msgspec.field(name="N")
    num_tokens: Count = msgspec.field(name="M")
    noise_psd: Positive = msgspec.field(name="n0")
    payload_bits: Positive = msgspec.field(name="bits")
    deadline_s: Positive = msgspec.field(name="T")
    gain: list[Positive]
    tx_power_limit_w: Nonnegative = msgspec.field(name="pmax")
    hosts: list[list[int]] = msgspec.field(name="host")
    routed_experts: list[list[Index]] = msgspec.field(name="idx")
    gate_weights: list[list[Nonnegative]] = msgspec.field(name="g")
    skip: list[Nonnegative] = msgspec.field(name="Fskip")
    deviation: list[list[Nonnegative]] | None = msgspec.field(name="F", default=None)
    some_rows: list[list[Nonnegative]] | None = msgspec.field(name="F_rows", default=None)
    row_ids: list[Index] | None = msgspec.field(name="F_row_ids", default=None)


class SelectionInstance(SetsInstance, frozen=True, kw_only=True):
    """Families a, b1 and b2."""

    bandwidth_hz: list[Positive] = msgspec.field(name="B")
    cap: Nonnegative = msgspec.field(name="eps")


class CappedBroadcast(SetsInstance, frozen=True, kw_only=True):
    """Family bc."""

    bandwidth_hz: Positive = msgspec.field(name="B")
    cap: Nonnegative = msgspec.field(name="eps")


class PricedBroadcast(SetsInstance, frozen=True, kw_only=True):
    """Family bp."""

    bandwidth_hz: Positive = msgspec.field(name="B")
    price: Nonnegative = msgspec.field(name="lam")


class BandwidthInstance(msgspec.Struct, frozen=True, kw_only=True):
    """Family w."""

    family: str
    bandwidth_hz: Positive = msgspec.field(name="B")
    tokens: list[Nonnegative] = msgspec.field(name="q")
    compute_s: list[Nonnegative] = msgspec.field(name="c")
    downlink_bits: Nonnegative = msgspec.field(name="sd")
    uplink_bits: Nonnegative = msgspec.field(name="su")
    downlink_power_w: list[Positive] = msgspec.field(name="Pb")
    downlink_gain: list[Positive] = msgspec.field(name="gd")
    uplink_power_w: list[Positive] = msgspec.field(name="Pk")
    uplink_gain: list[Positive] = msgspec.field(name="gu")
    noise_psd: Positive = msgspec.field(name="n0")


class _Family(msgspec.Struct, frozen=True):
    family: str


Broadcast = CappedBroadcast | PricedBroadcast
Instance = SelectionInstance | Broadcast | BandwidthInstance
_KINDS: dict[str, type[Instance]] = {
    "a": SelectionInstance,
    "b1": SelectionInstance,
    "b2": SelectionInstance,
    "bc": CappedBroadcast,
    "bp": PricedBroadcast,
    "w": BandwidthInstance,
}


def read_instance(path: str | Path) -> Instance:
    """Read and check one file.

    Raises
    ------
    ValueError
        If the file is no instance; the message names the file and the key.
    OSError
        If it cannot be read.
    """
    return parse_instance(Path(path).read_bytes(), name=str(path))


def parse_instance(data: bytes, *, name: str) -> Instance:
    """Check the text of an instance; ``name`` is what errors call it."""
    try:
        family = msgspec.json.decode(data, type=_Family).family
        if family not in _KINDS:
            raise ValueError(
                f"{name}: key 'family' is {family!r}; known are {', '.join(sorted(_KINDS))}"
            )
        instance: Instance = msgspec.json.decode(data, type=_KINDS[family])
    except msgspec.DecodeError as error:
        raise ValueError(f"{name}: {error}") from error
    if isinstance(instance, BandwidthInstance):
        _check_bandwidth(instance, name)
        return instance
    _check_selection(instance, name)
    if isinstance(instance, SelectionInstance):
        bands = len(instance.bandwidth_hz)
        _check_length(name, "B", bands, of="N", expected=instance.num_helpers)
    return instance


def _check_length(name: str, key: str, got: int, *, of: str, expected: int) -> None:
    if got != expected:
        raise ValueError(f"{name}: key '{key}' has {got} entries, expected {of} = {expected}")


def _check_range(name: str, key: str, values: list[int], *, low: int, high: int) -> None:
    for value in values:
        if not low <= value <= high:
            raise ValueError(f"{name}: key '{key}' holds {value}, expected {low}..{high}")


def _check_selection(r: SetsInstance, name: str) -> None:
    experts, helpers = r.num_experts, r.num_helpers
    lengths = {
        "gain": (len(r.gain), "N", helpers),
        "host": (len(r.hosts), "E", experts),
        "Fskip": (len(r.skip), "E", experts),
        "idx": (len(r.routed_experts), "M", r.num_tokens),
        "g": (len(r.gate_weights), "M", r.num_tokens),
    }
    for key, (got, of, expected) in lengths.items():
        _check_length(name, key, got, of=of, expected=expected)
    for t, (routed, weights) in enumerate(zip(r.routed_experts, r.gate_weights, strict=True)):
        _check_length(name, f"idx[{t}]", len(routed), of="K", expected=r.top_k)
        _check_length(name, f"g[{t}]", len(weights), of="K", expected=r.top_k)
        _check_range(name, f"idx[{t}]", routed, low=0, high=experts - 1)
    for j, where in enumerate(r.hosts):
        _check_range(name, f"host[{j}]", where, low=-1, high=helpers - 1)
    _check_deviation(r, name)


def _check_deviation(r: SetsInstance, name: str) -> None:
    key, rows = ("F", r.deviation) if r.deviation is not None else ("F_rows", r.some_rows)
    if rows is None:
        raise ValueError(f"{name}: key 'F' is missing, and so is 'F_rows'")
    ids = list(range(r.num_experts)) if r.deviation is not None else r.row_ids
    if ids is None:
        raise ValueError(f"{name}: key 'F_row_ids' is missing; 'F_rows' needs it")
    _check_length(name, key, len(rows), of="rows", expected=len(ids))
    for i, row in enumerate(rows):
        _check_length(name, f"{key}[{i}]", len(row), of="E", expected=r.num_experts)
    missing = {e for routed in r.routed_experts for e in routed} - set(ids)
    if missing:
        raise ValueError(f"{name}: key 'F_row_ids' lacks the routed expert {min(missing)}")
    _check_range(name, "F_row_ids", ids, low=0, high=r.num_experts - 1)


def _check_bandwidth(r: BandwidthInstance, name: str) -> None:
    columns = {
        "c": r.compute_s,
        "Pb": r.downlink_power_w,
        "gd": r.downlink_gain,
        "Pk": r.uplink_power_w,
        "gu": r.uplink_gain,
    }
    for key, values in columns.items():
        _check_length(name, key, len(values), of="devices in q", expected=len(r.tokens))


def selection_problem(r: SelectionInstance) -> SelectionProblem:
    """Arrays of an instance; uplink energies and capacities from its raw radio figures."""
    import numpy as np

    from siftmoe.coordinator.energy.tables import uplink_energy_table
    from siftmoe.coordinator.selection.problem import Budget, BudgetKind, SelectionProblem

    energy = uplink_energy_table(
        max_load=r.num_tokens,
        payload_bits=r.payload_bits,
        window_s=r.deadline_s,
        bandwidth_hz=np.array(r.bandwidth_hz),
        gain=np.array(r.gain),
        noise_psd=np.full(r.num_helpers, r.noise_psd),
        tx_power_limit_w=np.full(r.num_helpers, r.tx_power_limit_w),
    )
    return SelectionProblem(
        **arrays_of(r),
        energy=energy,
        budget=Budget(kind=BudgetKind.PER_TOKEN, value=r.cap),
    )


def arrays_of(r: SetsInstance) -> dict[str, Any]:
    """Fields of `SelectionProblem` that do not depend on the radio or the budget."""
    import numpy as np

    experts, helpers = r.num_experts, r.num_helpers
    hosts, local = np.zeros((helpers, experts), dtype=bool), np.zeros(experts, dtype=bool)
    for j, where in enumerate(r.hosts):
        hosts[[n for n in where if n >= 0], j] = True
        local[j] = -1 in where
    deviation = np.full((experts, experts + 1), np.inf)
    deviation[:, experts] = r.skip
    ids = r.row_ids if r.deviation is None else range(experts)
    deviation[list(ids or []), :experts] = r.some_rows if r.deviation is None else r.deviation
    return {
        "routed_experts": np.array(r.routed_experts, dtype=np.int64),
        "gate_weights": np.array(r.gate_weights, dtype=np.float64),
        "hosts": hosts,
        "local": local,
        "deviation": deviation,
        "scale": np.ones((experts, experts + 1)),
    }
