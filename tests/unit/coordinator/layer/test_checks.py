"""Figures from outside that are not finite: each is an error that names it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from layer_bench import AIR, GATES, HIDDEN, LINKS, ROUTED, Bench, benches

from siftmoe.coordinator.air.interface import AirInterface
from siftmoe.coordinator.energy.pricing import Pricing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from siftmoe.coordinator.air.bursts import Transfer

NAN, INF = float("nan"), float("inf")


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Bench]]:
    with benches(tmp_path) as start:
        yield start


def changed(array: Any, value: float) -> Any:
    array = array.copy()
    array[3, 1] = value
    return array


@pytest.mark.parametrize("value", [NAN, INF, -INF])
def test_a_gate_weight_that_is_not_finite_is_named(start: Any, value: float) -> None:
    bench = start()
    with pytest.raises(ValueError, match=r"layer 0: gate weight 1 of row 3 is -?(nan|inf)"):
        bench.serve(gates=changed(GATES, value))
    np.testing.assert_array_equal(bench.serve(), bench.serve())


def test_a_hidden_state_that_is_not_finite_is_the_models_and_no_helpers_fault(start: Any) -> None:
    bench = start()
    with pytest.raises(ValueError, match="layer 0: hidden state 1 of row 3 is nan"):
        bench.serve(hidden=changed(HIDDEN, NAN))


def test_a_gate_weight_of_an_empty_slot_means_nothing(start: Any) -> None:
    routed, gates = ROUTED.copy(), changed(GATES, NAN)
    routed[3, 1] = 4
    assert np.isfinite(start().serve(routed=routed, gates=gates)).all()


class NoEnergy(AirInterface):
    """An air of one's own that makes one energy NaN: a price, or that of a burst."""

    __slots__ = ()

    def pricing(self, links: Any, tokens: int) -> Pricing:
        table = super().pricing(links, tokens).energy_j.copy()
        table[2, 3] = NAN
        return Pricing.of_one_width(table)


class NoBurst(AirInterface):
    __slots__ = ()

    def transfer(self, *args: Any, **options: Any) -> Transfer:
        sent = super().transfer(*args, **options)
        energy = sent.down.energy_j.copy()
        energy[1] = INF
        return replace(sent, down=replace(sent.down, energy_j=energy))


def of(kind: type[AirInterface]) -> AirInterface:
    return kind(
        payload_bits=AIR.payload_bits,
        token_deadline_s=AIR.token_deadline_s,
        tx_power_limit_w=AIR.tx_power_limit_w,
        width=32,
        reply_width=32,
    )


@pytest.mark.parametrize("policy", ["topk", "siftmoe"])
def test_a_price_that_is_no_number_is_not_taken_for_out_of_reach(start: Any, policy: str) -> None:
    with pytest.raises(ValueError, match="energy of load 3 on helper 2 is nan"):
        start(policy=policy, air=of(NoEnergy)).serve()


def test_an_energy_of_a_burst_that_is_not_finite_is_named(start: Any) -> None:
    with pytest.raises(ValueError, match=r"energy_j of the downlink burst of 'a\d' .* is inf"):
        start(air=of(NoBurst)).serve()


@pytest.mark.parametrize("field", ["uplink_gain", "uplink_gain_std", "downlink_noise_psd"])
@pytest.mark.parametrize("value", [NAN, INF, -1.0])
def test_a_gain_that_is_not_finite_is_named(field: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"link states: {field} must be"):
        replace(LINKS.states(0.0), **{field: np.array([1e-8, value, 1e-8, 1e-8])})
