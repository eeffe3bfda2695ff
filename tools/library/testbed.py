"""The running agents and radios of a testbed, from Python."""

from __future__ import annotations

from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING, Any

from siftmoe.coordinator.config.entries import Testbed
from siftmoe.coordinator.config.testbed import load_testbed
from siftmoe.coordinator.policies.spec import PolicySpec
from siftmoe.models.bundle.reader import Bundle
from siftmoe.tools.comparing.job import check_policies, load_profile, with_budget
from siftmoe.tools.comparing.testbed_site import testbed_site
from siftmoe.tools.library.opening import deploy

if TYPE_CHECKING:
    from pathlib import Path

    from siftmoe.coordinator.sounding.channel import RadioChoice
    from siftmoe.tools.library.deployment import Deployment


def connect(
    testbed: str | Path | Testbed,
    *,
    policy: Any = None,
    ledger: str | Path | None = None,
    radio: RadioChoice = "auto",
    tokenizer: Any = None,
    realtime: bool = False,
    require_all: bool = False,
) -> Deployment:
    """Run a model on the running agents of a testbed, and on its radios.

    .. code-block:: python

        with siftmoe.connect("testbed.toml") as run:
            print(run.generate("Return the number of"))
            print(run.table())

    Parameters
    ----------
    testbed : str, Path or Testbed
        A file, see `siftmoe.coordinator.config.testbed`, or what was read from one.
    policy : str, PolicySpec, a policy, or None
        None takes the file's.
    ledger : str, Path or None
        File that keeps the books; one that exists gets another run. None: a temporary folder.
    radio : "auto" or "simulated"
        Whether links are simulated even where there are radios.
    tokenizer : transformers.PreTrainedTokenizerBase or None
        Instead of the bundle's.
    realtime : bool
        Wait the airtime.
    require_all : bool
        Raise if an agent is not ready in time, instead of beginning without it; experts that no
        ready agent hosts are replaced or skipped.

    Returns
    -------
    Deployment

    Raises
    ------
    ConfigError
        If the file is wrong, or an agent beyond this machine has no key.
    KeyUnusable
        If an agent has a key and the coordinator's own cannot be used.
    AgentUnreachable
        If no agent is ready in time, or one is not and all are required.
    PlacementError
        If an expert is on no agent of the file.
    RadioMissing
        If a radio is missing and the file does not allow to simulate its link.
    """
    config = testbed if isinstance(testbed, Testbed) else load_testbed(testbed)
    bundle = Bundle.open(config.model.bundle)
    spec = PolicySpec(config.policy.name, config.policy.options)
    if policy is not None:
        spec = PolicySpec.of(policy)
    spec = with_budget(spec)
    check_policies([spec], bundle, load_profile(bundle), config.radio)
    with ExitStack() as resources:
        return deploy(
            partial(
                testbed_site,
                testbed=config,
                choice=radio,
                require_all=require_all,
                realtime=realtime,
            ),
            spec,
            bundle=bundle,
            radio=config.radio,
            ledger=ledger,
            resources=resources,
            tokenizer=tokenizer,
        )
