"""A deployment put together on a site: ledger, session, policy with its price, coordinator."""

from __future__ import annotations

import tempfile
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from siftmoe.coordinator.ledger.store import Ledger
from siftmoe.coordinator.model.restoring import restored
from siftmoe.coordinator.model.session import Session
from siftmoe.models.errors import BundleCorrupt
from siftmoe.models.similarity.file import rotation_of
from siftmoe.tools.comparing.inprocess import ExpertsInProcess
from siftmoe.tools.comparing.job import LOSS, load_profile, with_budget
from siftmoe.tools.comparing.readying import coordinator_for, with_price
from siftmoe.tools.library.deployment import Deployment

if TYPE_CHECKING:
    from contextlib import ExitStack

    from siftmoe.coordinator.config.radio import RadioEntry
    from siftmoe.coordinator.policies.spec import PolicySpec
    from siftmoe.models.bundle.reader import Bundle
    from siftmoe.tools.comparing.comparison import OpenSite

_BATCH = 8


def open_ledger(path: str | Path | None, label: str, resources: ExitStack) -> Ledger:
    """Open a ledger for a run: a file that exists gets another run of the same label.

    Parameters
    ----------
    path : str, Path or None
        None takes a temporary folder, which goes with the resources.
    label : str
    resources : ExitStack

    Raises
    ------
    LedgerError
        If the file is no ledger, or cannot be written.
    """
    if path is None:
        folder = resources.enter_context(tempfile.TemporaryDirectory(prefix="siftmoe-"))
        path = Path(folder) / "ledger.sqlite"
    if not Path(path).exists():
        return resources.enter_context(Ledger.create(path, label=label))
    ledger = resources.enter_context(Ledger.resume(path))
    ledger.start_run(label, again=True)
    return ledger


def deploy(
    open_site: OpenSite,
    policy: PolicySpec,
    *,
    bundle: Bundle,
    radio: RadioEntry,
    ledger: str | Path | None,
    resources: ExitStack,
    model: Any = None,
    tokenizer: Any = None,
) -> Deployment:
    """Put a deployment together.

    Parameters
    ----------
    open_site : OpenSite
    policy : PolicySpec
        One that spends a price and names no budget gets the usual loss.
    bundle : Bundle
    radio : RadioEntry
    ledger : str, Path or None
        See `open_ledger`.
    resources : ExitStack
        Takes all that has to end with the deployment; closed by the caller if this fails.
    model, tokenizer : optional
        Of the user's; by default the bundle's.

    Raises
    ------
    ValueError
        If an option of the policy is unknown or missing, or the bundle has no tokenizer.
    """
    policy = with_budget(policy)
    label = str(policy)
    books = open_ledger(ledger, label, resources)
    site = resources.enter_context(open_site(bundle, radio, books))
    if model is not None:
        resources.enter_context(restored(model))
    session = Session(
        bundle.load_backbone() if model is None else model,
        _tokenizer(bundle, policy) if tokenizer is None else tokenizer,
    )

    @cache
    def experts() -> ExpertsInProcess:
        return ExpertsInProcess(bundle, rotation=rotation_of(bundle))

    profile = load_profile(bundle)
    priced, _ = with_price(
        policy,
        site=site,
        bundle=bundle,
        profile=profile,
        radio=radio,
        session=session,
        experts=experts,
        batch_size=_BATCH,
    )
    coordinator = coordinator_for(
        priced, site=site, bundle=bundle, profile=profile, radio=radio, ledger=books
    )
    resources.enter_context(site.metered(books))
    resources.enter_context(coordinator.attached(session.model))
    return Deployment(
        coordinator,
        bundle=bundle,
        session=session,
        policy=label,
        resources=resources.pop_all(),
    )


def _tokenizer(bundle: Bundle, policy: PolicySpec) -> Any:
    """Load the bundle's tokenizer; None if it has none and no text has to be read yet."""
    try:
        return bundle.load_tokenizer()
    except BundleCorrupt:
        if policy.number(LOSS) is not None:
            raise
        return None
