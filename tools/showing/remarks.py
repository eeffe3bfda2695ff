"""Remarks: the sentences that must stand under a table of policies."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from siftmoe.tools.showing.quantities import counted, si

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from siftmoe.tools.results.policies import PolicyResult


def remarks(results: Sequence[PolicyResult]) -> list[str]:
    """Return the sentences that must stand under a table of these results, by kind."""
    return [
        f"{result.policy}: {sentence}"
        for kind in _KINDS
        for result in results
        for sentence in kind(result)
    ]


def _stated(result: PolicyResult) -> Iterator[str]:
    """Yield how a stated loss was set, and what it became."""
    if result.stated is None:
        return
    found = result.stated
    said = (
        f"perplexity is to rise by {found['loss']:.1%} at most; by {_share(*_pair(found))} on "
        f"validation text over {found['draws']} channels (their mean is below "
        f"{found['upper']:.2%} at {found['level']:.0%} confidence, one-sided)"
    )
    if result.rise is not None:
        said += f", by {_share(*result.rise)} on the test text"
    yield said + "; ± is one standard error, paired."


def _pair(found: Mapping[str, Any]) -> tuple[float, float]:
    return found["mean"], found["standard_error"]


def _share(value: float, error: float) -> str:
    return f"{100 * value:.2f} ± {100 * error:.2f} %"


def _infeasible(result: PolicyResult) -> Iterator[str]:
    if result.infeasible:
        yield (
            f"{counted(result.infeasible, 'selection')} could not keep the budget on the helpers "
            f"in reach and took the least possible deviation."
        )


def _outage(result: PolicyResult) -> Iterator[str]:
    if result.outage:
        yield (
            f"{result.outage:.2%} of the slots sent missed their window; they are skipped, and "
            f"their energy is counted."
        )


def _faulted(result: PolicyResult) -> Iterator[str]:
    if result.faulted:
        yield (
            f"{counted(result.faulted, 'slot')} skipped because the selected helper failed and no "
            f"other took over."
        )


def _boards(result: PolicyResult) -> Iterator[str]:
    gross_j, net_j = result.board_j_per_token, result.board_net_j_per_token
    if gross_j is not None and net_j is not None:
        yield f"boards took {si(gross_j, 'J')} per token, {si(net_j, 'J')} of it above idling."


def _aborted(result: PolicyResult) -> Iterator[str]:
    if result.aborted:
        steps = counted(result.aborted, "step")
        yield f"{steps} aborted after {si(result.aborted_j, 'J')}, which no figure contains."


def _attempts(result: PolicyResult) -> Iterator[str]:
    if result.attempts:
        attempts = counted(result.attempts, "earlier attempt")
        energy = si(result.attempts_j, "J")
        yield f"{attempts} interrupted after {energy}, which no figure contains."


def _audited(result: PolicyResult) -> Iterator[str]:
    if result.measured_over_bound is not None:
        yield f"the measured deviation is {result.measured_over_bound:.2f} of the planned one."


def _lengths(result: PolicyResult) -> Iterator[str]:
    """Yield a sentence for each task of which items do not fit into the model's context."""
    for name, (cut, left_out) in result.lengths.items():
        parts = [f"{counted(cut, 'item')} cut"] * bool(cut)
        parts += [f"{counted(left_out, 'item')} left out"] * bool(left_out)
        yield f"{name}: {' and '.join(parts)}, too long for the model's context."


def _missing(result: PolicyResult) -> Iterator[str]:
    """Yield a sentence for each helper or link that was missing."""
    for name in sorted({*result.faults, *result.lost}):
        parts = []
        if name in result.faults:
            count, reason = result.faults[name]
            parts.append(f"failed in {counted(count, 'layer')} (first: {reason})")
        if name in result.lost:
            why = "" if parts else result.lost_why.get(name, "")
            selections = counted(result.lost[name], "selection")
            parts.append(f"was left out of {selections}" + f" ({why})" * bool(why))
        yield f"{name} {' and '.join(parts)}."


#: In their order under a table.
_KINDS: Final[tuple[Callable[[PolicyResult], Iterator[str]], ...]] = (
    _stated,
    _infeasible,
    _outage,
    _missing,
    _faulted,
    _boards,
    _aborted,
    _attempts,
    _audited,
    _lengths,
)
