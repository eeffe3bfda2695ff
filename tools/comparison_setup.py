"""What a comparison is asked to do, checked and spelt out before anything starts."""

from __future__ import annotations

import datetime
import sys
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from siftmoe.coordinator.assembly import payload_bits
from siftmoe.coordinator.config_radio import RadioEntry
from siftmoe.coordinator.errors import ConfigError
from siftmoe.coordinator.policies.spec import PolicySpec
from siftmoe.coordinator.policy_setup import BUDGETED, BUDGETS, prepare_policy
from siftmoe.models.similarity import Profile, read_profile
from siftmoe.tools.report import si

if TYPE_CHECKING:
    from siftmoe.models.bundle import Bundle

#: All helpers stand at one distance: what differs between links is fading alone.
DISTANCE_M = 20.0
#: SiftMoE's operating point: a Mixtral token, 4096 x 16 bit, over 2 MHz in 0.074 s.
PAPER_BITS_PER_HERTZ = 4096 * 16 / (2e6 * 0.074)
SIMULATED = "Simulated links, no radio was used: every energy and airtime here is modelled."

#: Option of a budgeted policy: rise of perplexity, as a share, that its price is to cost.
LOSS = "loss"
USUAL_LOSS = 0.025


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What a comparison is asked to do; ``siftmoe loopback --help`` tells of each."""

    agents: int
    policies: tuple[str, ...]
    model: str
    tasks: tuple[str, ...]
    items: int
    prompt: str
    answer_tokens: int
    fading: str
    coherence_time_s: float
    seed: int
    bandwidth_hz: float
    deadline_s: float | None
    deadline_shared: bool
    fading_slots: int
    outage_price: float
    payload_dtype: str
    downlink_price: float
    batch_size: int
    realtime: bool
    audit: bool


def load_profile(bundle: Bundle) -> Profile | None:
    """Read a bundle's profile; None if it has none."""
    return None if bundle.manifest.profile_file() is None else read_profile(bundle.manifest)


def with_budget(policy: PolicySpec) -> PolicySpec:
    """Give a policy that spends a budget and names none the usual loss."""
    if policy.name not in BUDGETED or {LOSS, *BUDGETS} & set(policy.options):
        return policy
    return PolicySpec(policy.name, {**policy.options, LOSS: USUAL_LOSS})


def check_policies(policies: list[PolicySpec], bundle: Bundle, profile: Profile | None) -> None:
    """Tell of a wrong option before anything starts."""
    for policy in policies:
        options = dict(policy.options)
        if options.pop(LOSS, None) is not None:
            options["price"] = 0.0
        prepare_policy(PolicySpec(policy.name, options), shape=bundle.shape, profile=profile)


def radio_settings(options: Options, hidden_size: int) -> RadioEntry:
    """Air of a comparison; without a deadline a token is at the paper's operating point."""
    given = {
        "bandwidth_hz": options.bandwidth_hz,
        "fading": options.fading,
        "fading_slots": options.fading_slots,
        "outage_price": options.outage_price,
        "deadline_shared": options.deadline_shared,
        "coherence_time_s": options.coherence_time_s,
        "seed": options.seed,
        "payload_dtype": options.payload_dtype,
        "downlink_price": options.downlink_price,
    }
    try:
        radio = msgspec.convert(given, RadioEntry)
    except msgspec.ValidationError as error:
        raise ConfigError(f"radio settings: {error}") from error
    bits = payload_bits(radio, hidden_size)
    deadline_s = options.deadline_s or bits / (options.bandwidth_hz * PAPER_BITS_PER_HERTZ)
    return msgspec.structs.replace(radio, deadline_s=deadline_s)


def describe(options: Options, radio: RadioEntry, bundle: Bundle) -> dict[str, Any]:
    """Say what a run does, for its folder, its report and the screen."""
    density = payload_bits(radio, bundle.shape.hidden_size) / (
        radio.bandwidth_hz * radio.deadline_s
    )
    where = "the paper's operating point" if _is_paper(density) else "not the paper's 0.44"
    return {
        "model": options.model,
        "started": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "siftmoe": version("siftmoe"),
        "note": SIMULATED,
        "operating_point": (
            f"{payload_bits(radio, bundle.shape.hidden_size)} bit per token over "
            f"{radio.bandwidth_hz / 1e6:g} MHz in {si(radio.deadline_s, 's')} {_each(radio)}: "
            f"{density:.2f} bit/s/Hz ({where}; a batch shares its tokens' deadlines); "
            f"{options.agents} agents, {radio.fading} fading{_speed(radio)}"
        ),
        "prompt": options.prompt,
        "options": asdict(options),
        "radio": msgspec.structs.asdict(radio),
        "model_hash": bundle.manifest.model_hash,
        "command": sys.argv[1:],
    }


def _each(radio: RadioEntry) -> str:
    return "for uplink, compute and downlink" if radio.deadline_shared else "each way"


def _speed(radio: RadioEntry) -> str:
    return f" in {radio.fading_slots} blocks of an uplink's window" if radio.fading_slots else ""


def _is_paper(bits_per_hertz: float) -> bool:
    return abs(bits_per_hertz / PAPER_BITS_PER_HERTZ - 1.0) < 0.01


def make_folder(out: Path | None) -> Path:
    """Make the run's folder; None takes the next free one under ``runs``."""
    folder = _next_folder(Path("runs")) if out is None else out
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ValueError(f"--out {str(folder)!r} exists and is not empty; name another folder")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _next_folder(runs: Path) -> Path:
    number = 1
    while (runs / f"loopback-{number}").exists():
        number += 1
    return runs / f"loopback-{number}"
