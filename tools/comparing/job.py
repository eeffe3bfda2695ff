"""The job of a comparison: policies, tasks and options, checked before anything starts."""

from __future__ import annotations

import datetime
import sys
from dataclasses import asdict, dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from siftmoe.coordinator.air.assembly import air_interface, token_deadline_s
from siftmoe.coordinator.config.radio import RadioEntry
from siftmoe.coordinator.errors import ConfigError
from siftmoe.coordinator.policies.setup import check_options, prepare_policy
from siftmoe.coordinator.selection.policy import BUDGETS
from siftmoe.models.similarity.file import read_profile
from siftmoe.models.similarity.profile import Profile
from siftmoe.tools.showing.captions import channel_text, operating_point_text

if TYPE_CHECKING:
    from siftmoe.coordinator.policies.spec import PolicySpec
    from siftmoe.coordinator.selection.widths import Bits
    from siftmoe.models.bundle.reader import Bundle

#: Option of a budgeted policy: rise of perplexity, as a share, that its price is to cost.
LOSS = "loss"
USUAL_LOSS = 0.025


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """Policies, tasks and options of one comparison, independent of the fleet.

    Parameters
    ----------
    name : str
        Of the command.
    policies, tasks : tuple of str
    items : int
        Of each task.
    prompt : str
    answer_tokens : int
    batch_size : int
    realtime, audit, as_json : bool
    out : Path or None
        A folder that does not exist or is empty; None takes the next free one under ``runs``.
    site : dict
        What the command needs to find the same fleet again.
    wide : bool
        Print all columns of the table.
    chat : bool
        Put the prompt into the model's chat template.
    """

    name: str
    policies: tuple[str, ...]
    tasks: tuple[str, ...]
    items: int
    prompt: str
    answer_tokens: int
    batch_size: int
    realtime: bool
    audit: bool
    as_json: bool
    out: Path | None
    site: dict[str, Any] = field(default_factory=dict)
    wide: bool = False
    chat: bool = False


def load_profile(bundle: Bundle) -> Profile | None:
    """Read a bundle's profile; None if it has none."""
    return None if bundle.manifest.profile_file() is None else read_profile(bundle.manifest)


def with_budget(policy: PolicySpec) -> PolicySpec:
    """Give a policy that needs a budget and names none the default loss."""
    if "price" not in policy.traits.budgets or {LOSS, *BUDGETS} & set(policy.options):
        return policy
    return policy.having(**{LOSS: USUAL_LOSS})


def check_policies(
    policies: list[PolicySpec], bundle: Bundle, profile: Profile | None, radio: RadioEntry
) -> None:
    """Raise ValueError for a wrong policy or option before anything starts."""
    for policy in policies:
        check_options(policy, also=(LOSS,) if "price" in policy.traits.budgets else ())
        options = dict(policy.options)
        if options.pop(LOSS, None) is not None:
            options["price"] = 0.0
        prepared = prepare_policy(
            replace(policy, options=options),
            shape=bundle.shape,
            profile=profile,
            bits=radio.bits,
            downlink_bits=radio.downlink_bits,
        )
        air_interface(radio, bundle.shape, prepared.widths, distances_m=(1.0,))


def simulated_radio(
    hidden_size: int, *, deadline_s: float | None, bandwidth_hz: float, **given: Any
) -> RadioEntry:
    """Radio settings of a simulation; the default deadline is that of the operating point."""
    settings = {"bandwidth_hz": bandwidth_hz, **given}
    return at_operating_point(_checked(settings | {"deadline_s": deadline_s}), hidden_size)


def at_operating_point(radio: RadioEntry, hidden_size: int) -> RadioEntry:
    """Fill in the default deadline: that of the operating point for the model."""
    return msgspec.structs.replace(radio, deadline_s=token_deadline_s(radio, hidden_size))


def with_options(
    radio: RadioEntry,
    *,
    bits: Bits | None = None,
    downlink_bits: Bits | None = None,
    links: str | None = None,
    **air: Any,
) -> RadioEntry:
    """Replace settings of a testbed by those of the command line, where it gives them.

    Parameters
    ----------
    radio : RadioEntry
    bits, downlink_bits, links
    **air
        Further keys of ``[radio]``; None leaves a key as it is. An operating point takes the place
        of the deadline too.
    """
    said = {"bits": bits, "downlink_bits": downlink_bits, "links": links, **air}
    given = {name: value for name, value in said.items() if value is not None}
    if "operating_point" in given:
        given["deadline_s"] = None
    return _checked(msgspec.structs.asdict(radio) | given) if given else radio


def _checked(settings: dict[str, Any]) -> RadioEntry:
    try:
        return msgspec.convert(settings, RadioEntry)
    except msgspec.ValidationError as error:
        raise ConfigError(f"radio settings: {error}") from error


def describe(job: Job, radio: RadioEntry, bundle: Bundle, *, model: str) -> dict[str, Any]:
    """Describe the operating point in a sentence, for the run's folder, report and screen."""
    return {
        "model": model,
        "started": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "siftmoe": version("siftmoe"),
        "operating_point": operating_point_text(radio, bundle.shape.hidden_size),
        "channel": channel_text(radio, job.site.get("distances_m", ())),
        "prompt": job.prompt,
        "job": {**asdict(job), "out": None if job.out is None else str(job.out)},
        "radio": msgspec.structs.asdict(radio),
        "model_hash": bundle.manifest.model_hash,
        "command": sys.argv[1:],
    }


def make_folder(job: Job) -> Path:
    """Make the run's folder.

    Raises
    ------
    ValueError
        If it is not empty.
    """
    folder = _next_folder(Path("runs"), job.name) if job.out is None else job.out
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ValueError(f"--out {str(folder)!r} exists and is not empty; name another folder")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _next_folder(runs: Path, name: str) -> Path:
    number = 1
    while (runs / f"{name}-{number}").exists():
        number += 1
    return runs / f"{name}-{number}"
