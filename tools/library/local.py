"""Agents on this machine behind simulated links, without a file."""

from __future__ import annotations

from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING, Any

from siftmoe.coordinator.links.distances import distances_of
from siftmoe.coordinator.links.sources import SIMULATED, check_links, links_of
from siftmoe.coordinator.policies.spec import PolicySpec
from siftmoe.tools.comparing.job import check_policies, load_profile, simulated_radio, with_budget
from siftmoe.tools.comparing.local_fleet import check_agents
from siftmoe.tools.comparing.local_site import DISTANCE_M, local_site
from siftmoe.tools.library.opening import deploy
from siftmoe.tools.library.source import bundle_of, with_profile

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from siftmoe.coordinator.config.radio import RadioEntry
    from siftmoe.coordinator.links.sources import LinkSource
    from siftmoe.coordinator.links.states import Links
    from siftmoe.coordinator.selection.widths import Bits
    from siftmoe.tools.library.deployment import Deployment


def local(
    model_or_bundle: Any = "upcycled",
    *,
    agents: int = 4,
    policy: Any = "topk",
    links: Any = None,
    bits: Bits = 16,
    downlink_bits: Bits | None = None,
    ledger: str | Path | None = None,
    tokenizer: Any = None,
    seed: int = 0,
    bandwidth_hz: float = 2e6,
    deadline_s: float | None = None,
    realtime: bool = False,
    distances_m: str | Sequence[float] | None = None,
    **radio: Any,
) -> Deployment:
    """Run a model on agents of this machine, each a process, behind simulated links.

    .. code-block:: python

        with siftmoe.local("upcycled", policy="siftmoe:loss=0.025") as run:
            print(run.generate("Return the number of"))
            print(run.table())

    Parameters
    ----------
    model_or_bundle : str, Path, Bundle or transformers.PreTrainedModel
        "upcycled" or "scratch" of the shipped ones, the folder of a bundle or of a checkpoint, a
        bundle, or a model in memory. What is not a bundle is prepared in the cache once.
    agents : int
        Processes; they share the experts of each layer in turn.
    policy : str, PolicySpec, or a policy
        As ``--policy`` has it, or a function, class or object of your own.
    links : str, Links, callable or None
        Where the states of links come from: a name as ``--links`` has it, links of your own, or a
        callable that makes them of ``(radio, distances_m)``. None simulates Rayleigh fading.
    bits : int or "auto"
        Of an entry on the way to a helper.
    downlink_bits : int, "auto" or None
        Of an entry on the way back.
    ledger : str, Path or None
        File that keeps the books; one that exists gets another run. None: a temporary folder.
    tokenizer : transformers.PreTrainedTokenizerBase or None
        Of a model in memory, or instead of the bundle's.
    seed : int
        Of the simulated links.
    bandwidth_hz, deadline_s : float
        Of a link, and of a token's airtime in one direction; None: that of ``operating_point``,
        0.44 bit/s/Hz.
    realtime : bool
        Wait the airtime.
    distances_m : str, sequence of float or None, m
        Of the helpers, as ``--distances`` has them or one for each; None: 20 m.
    **radio
        Further keys of ``[radio]`` in a testbed file.

    Returns
    -------
    Deployment

    Raises
    ------
    ValueError
        If the model, the policy or the links are none, or there are more agents than experts.
    ConfigError
        If a key of the radio is unknown or its value impossible.
    AgentError, AgentUnreachable
        If an agent does not start, or is not ready in time.
    """
    spec = with_budget(PolicySpec.of(policy))
    bundle = with_profile(bundle_of(model_or_bundle, tokenizer=tokenizer), spec)
    check_agents(bundle, agents)
    entry = simulated_radio(
        bundle.shape.hidden_size,
        deadline_s=deadline_s,
        bandwidth_hz=bandwidth_hz,
        seed=seed,
        bits=bits,
        downlink_bits=downlink_bits,
        links=links if isinstance(links, str) else SIMULATED,
        **radio,
    )
    check_policies([spec], bundle, load_profile(bundle), entry)
    source = _source(links)
    where = _distances(distances_m, agents)
    links_of(entry, where, source=source)  # refused before an agent starts
    with ExitStack() as resources:
        return deploy(
            partial(
                local_site, num_agents=agents, realtime=realtime, source=source, distances_m=where
            ),
            spec,
            bundle=bundle,
            radio=entry,
            ledger=ledger,
            resources=resources,
            model=model_or_bundle if hasattr(model_or_bundle, "save_pretrained") else None,
            tokenizer=tokenizer,
        )


def _distances(given: str | Sequence[float] | None, agents: int) -> list[float]:
    if given is None:
        return [DISTANCE_M] * agents
    text = given if isinstance(given, str) else ",".join(f"{distance}" for distance in given)
    return distances_of(text, agents)


def _source(links: Any) -> LinkSource | None:
    """Make a source of what a user gives as links."""
    if links is None or isinstance(links, str):
        return None
    if not hasattr(links, "states"):
        if not callable(links):
            raise ValueError(
                f"links {links!r}: give a name, links with states(now_s), or a callable"
            )
        source: LinkSource = links
        return source

    def given(radio: RadioEntry, distances_m: Sequence[float], /, **_: Any) -> Links:
        del radio
        check_links(links, name=type(links).__name__, num_helpers=len(distances_m))
        own: Links = links
        return own

    return given
