"""Makes a policy ready on a site: its price searched, its coordinator put together."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

from siftmoe.coordinator.coordinator import Coordinator
from siftmoe.coordinator.policies.setup import prepare_policy
from siftmoe.tools.comparing.exchange_rate import MOST_RUNS, find_rate
from siftmoe.tools.comparing.job import LOSS
from siftmoe.tools.comparing.trials import Trials, validation_task
from siftmoe.tools.terminal.progress import progress_bar

if TYPE_CHECKING:
    from collections.abc import Callable

    from siftmoe.coordinator.config.radio import RadioEntry
    from siftmoe.coordinator.layer.parts import LayerOutput
    from siftmoe.coordinator.ledger.store import Ledger
    from siftmoe.coordinator.model.session import Session
    from siftmoe.coordinator.policies.spec import PolicySpec
    from siftmoe.models.bundle.reader import Bundle
    from siftmoe.models.similarity.profile import Profile
    from siftmoe.tools.comparing.inprocess import ExpertsInProcess
    from siftmoe.tools.comparing.site import Site


class Priced(NamedTuple):
    """A policy with its price, and how that was found; None where no loss was stated."""

    policy: PolicySpec
    stated: dict[str, Any] | None


def with_price(
    policy: PolicySpec,
    *,
    site: Site,
    bundle: Bundle,
    profile: Profile | None,
    radio: RadioEntry,
    session: Session,
    experts: Callable[[], ExpertsInProcess],
    batch_size: int,
) -> Priced:
    """Replace a stated loss by the exchange rate that brings it about on validation text.

    Parameters
    ----------
    policy : PolicySpec
        One that states no loss is returned as it is.
    site : Site
        Its links for trials are used.
    bundle : Bundle
    profile : Profile or None
    radio : RadioEntry
    session : Session
    experts : callable
        Gives the experts that compute the trials; asked only if there are any.
    batch_size : int
        Sequences of one prefill.
    """
    loss = policy.number(LOSS)
    if loss is None or profile is None:  # without a profile it is refused with the others
        return Priced(policy, None)
    options = {key: value for key, value in policy.options.items() if key != LOSS}
    trials = Trials(
        bundle=bundle,
        profile=profile,
        session=session,
        experts=experts(),
        site=site,
        seed=radio.seed,
        task=validation_task(session.tokenizer, context=bundle.context_length),
        batch_size=batch_size,
        bits=radio.bits,
        downlink_bits=radio.downlink_bits,
    )
    with progress_bar(f"{policy}: rate on validation text", MOST_RUNS, at_most=True) as advance:
        rate = find_rate(
            replace(policy, options=options), trials, loss=loss, on_trial=lambda: advance(1)
        )
    priced = replace(policy, options={**options, "price": rate.price_j_per_nat})
    return Priced(priced, rate.described(loss))


def coordinator_for(
    policy: PolicySpec,
    *,
    site: Site,
    bundle: Bundle,
    profile: Profile | None,
    radio: RadioEntry,
    ledger: Ledger,
    reference: LayerOutput | None = None,
) -> Coordinator:
    """Put the coordinator of one policy together; simulated channels start anew.

    Raises
    ------
    ValueError
        If an option of the policy is unknown or missing, or it needs a profile and there is none.
    """
    links, clock = site.channel()
    prepared = prepare_policy(
        policy,
        shape=bundle.shape,
        profile=profile,
        links=lambda: links.states(clock.now_s),
        air=lambda: air,
        bits=radio.bits,
        downlink_bits=radio.downlink_bits,
    )
    air = site.air(prepared.widths)
    return Coordinator(
        fleet=site.fleet,
        dispatcher=site.dispatcher,
        links=links,
        air=air,
        policy=prepared.select,
        tables=prepared.tables,
        ledger=ledger,
        clock=clock,
        reference=reference,
        reads_router=prepared.reads_router,
    )
