"""Tables of a testbed file as checked structs: model, policy, security, flash, faults, agents."""

from __future__ import annotations

import re
from typing import Annotated, Any, Final, Literal, TypeAlias

import msgspec
from msgspec import Meta

from siftmoe.agent.config import select_experts
from siftmoe.agent.errors import ConfigError as AgentConfigError
from siftmoe.agent.security.keys import is_public_key
from siftmoe.coordinator.config.radio import Index, Positive, RadioEntry, SoundingEntry
from siftmoe.coordinator.errors import ConfigError
from siftmoe.radio.pluto.address import Address

#: Layer and expert, both counted from 0.
ExpertId: TypeAlias = tuple[int, int]

Name = Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$")]
AgentAddress = Annotated[
    str, Meta(pattern=r"^(tcp://[^\s:/]+:\d{1,5}|tcp://\[[^\s\]]+\]:\d{1,5}|ipc://\S+)$")
]

#: A prefill of a large batch keeps a slow board busy for seconds; heartbeats detect a dead agent
#: long before.
LAYER_DEADLINE_S: Final = 30.0
#: A shorter deadline would cut off a round trip on Wi-Fi; with a longer one a run seems to hang.
LEAST_DEADLINE_S: Final = 0.02
LONGEST_DEADLINE_S: Final = 3_600.0
LayerDeadline = Annotated[float, Meta(ge=LEAST_DEADLINE_S, le=LONGEST_DEADLINE_S)]

#: What a value must look like, in words, by its key.
FORMS: Final = {
    "name": "letters, digits, '.', '_' and '-', at most 63",
    "address": "tcp://HOST:PORT or ipc://PATH",
    "onnxruntime": "a version as 1.23.2",
    "root": "an absolute path of letters, digits, '.', '_' and '-'",
    "experts": '"auto", pairs like [[0, 1], [0, 2]], or a selection like "0:1,1:*"',
}
_SELECTION = re.compile(r"auto|[\d*-]+:[\d*-]+(,\s*[\d*-]+:[\d*-]+)*")


class _Table(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A TOML table whose keys are all known."""


class ModelEntry(_Table, frozen=True, kw_only=True):
    """``[model]``: which model runs.

    Parameters
    ----------
    bundle : str
        Folder that ``siftmoe prepare`` wrote; relative to this file.
    """

    bundle: Annotated[str, Meta(min_length=1)]


class PolicyEntry(_Table, frozen=True, kw_only=True):
    """``[policy]``: which policy selects.

    Parameters
    ----------
    name : str
        Of a policy, as ``--policy`` has it.
    options : table
        Its own options, which the policy checks: ``{ loss = 0.025 }``.
    """

    name: Name = "topk"
    options: dict[str, Any] = {}


class SecurityEntry(_Table, frozen=True, kw_only=True):
    """``[security]``: keys by which coordinator and agents authenticate each other.

    Parameters
    ----------
    keys : str
        Folder of key files, made by ``siftmoe keys``; relative to this file.
    insecure : bool
        Allow unencrypted connections to agents without a key on other machines.
    """

    keys: Annotated[str, Meta(min_length=1)] = "keys"
    insecure: bool = False


class FlashEntry(_Table, frozen=True, kw_only=True):
    """``[flash]``: how boards are provisioned by ``siftmoe flash``.

    Parameters
    ----------
    root : str
        Folder on the boards.
    service : str
        Supervisor of the agent: systemd, our own, or whichever a board has.
    start_s, watchdog_s : float, s
        Time limit for an agent to start serving, and between two signs of life.
    onnxruntime : str or None
        Version for the boards; None takes the newest available one.
    packing : "compiled" or "numpy"
        How agents pack vectors: with code that a board compiles when it is flashed, or without
        numba, which saves 64 MB to send and 130 MB of memory.
    python : str or None
        Interpreter on the boards, as ``python3.10`` or a path; None takes the first of python3,
        python3.13, python3.12, python3.11 and python3.10 that is new enough.
    """

    root: Annotated[str, Meta(pattern=r"^/[A-Za-z0-9._/-]+$")] = "/opt/siftmoe"
    service: Literal["auto", "systemd", "supervisor"] = "auto"
    start_s: Positive = 180.0
    watchdog_s: Positive = 20.0
    onnxruntime: Annotated[str, Meta(pattern=r"^[0-9][0-9A-Za-z.+]*$")] | None = None
    packing: Literal["compiled", "numpy"] = "compiled"
    python: Annotated[str, Meta(pattern=r"^[A-Za-z0-9._/+-]+$")] | None = None


class FaultsEntry(_Table, frozen=True, kw_only=True):
    """``[faults]``: deadline of a layer, and treatment of hot boards.

    Parameters
    ----------
    layer_deadline_s : float, s
        Real time within which a layer's results must arrive; other helpers are asked after half of
        it. Results that are missing at its end are skipped.
    avoid_hot : bool
        Exclude boards that throttle because of heat, or have reached that temperature.
    cool_k : float, K
        Margin below its limits to which a hot board must cool before it is used again.
    """

    layer_deadline_s: LayerDeadline = LAYER_DEADLINE_S
    avoid_hot: bool = True
    cool_k: Annotated[float, Meta(ge=0.5, le=50.0)] = 5.0


class AgentEntry(_Table, frozen=True, kw_only=True):
    """``[[agent]]``: one helper.

    Parameters
    ----------
    name : str
        Letters, digits, ".", "_" and "-"; each agent has another one.
    address : str
        ``tcp://host:port`` or ``ipc://path`` where its agent listens.
    experts : str or list
        "auto", pairs of layer and expert as ``[[0, 1], [0, 2]]``, or a selection such as
        ``"0:1,1:*"`` as the agent itself takes it.
    memory_bytes : int or None
        Memory for experts; if all state it, "auto" places by memory.
    distance_m : float, m
        From the user's device, for the path loss of a simulated link.
    radio : str or None
        URI of its radio, ``ip:HOST[:PORT]`` or ``usb:BUS.DEVICE.INTERFACE``, with which ``siftmoe
        flash`` starts its agent. An agent started by hand takes it from ``--radio``.
    ssh : str or None
        ``user@host`` for provisioning.
    key : str or None
        Its public CURVE key, Z85.
    """

    name: Name
    address: AgentAddress
    experts: str | list[tuple[Index, Index]] = "auto"
    memory_bytes: Annotated[int, Meta(gt=0)] | None = None
    distance_m: Positive = 10.0
    radio: Annotated[str, Meta(min_length=1)] | None = None
    ssh: Annotated[str, Meta(min_length=1)] | None = None
    key: Annotated[str, Meta(min_length=40, max_length=40)] | None = None

    def __post_init__(self) -> None:
        # Not a pattern in the annotation: msgspec 0.22 frees a pattern beside a list twice.
        if self.key is not None and not is_public_key(self.key):
            raise ValueError(f"key of agent {self.name!r} is no public key; run 'siftmoe keys'")
        if self.radio is not None:
            Address.parse(self.radio)
        if isinstance(self.experts, str):
            if _SELECTION.fullmatch(self.experts) is None:
                raise ValueError(f"experts of agent {self.name!r}: expected {FORMS['experts']}")
        elif not self.experts or len(set(self.experts)) < len(self.experts):
            raise ValueError(f"experts of agent {self.name!r}: none, or one twice: {self.experts}")

    def expert_list(self, *, num_layers: int, num_experts: int) -> tuple[ExpertId, ...] | None:
        """Return the experts it is given, sorted, or None for "auto".

        Raises
        ------
        ConfigError
            If the model does not have one of them.
        """
        if self.experts == "auto":
            return None
        text = self.experts
        if not isinstance(text, str):
            text = ",".join(f"{layer}:{expert}" for layer, expert in text)
        try:
            return select_experts(text, num_layers=num_layers, num_experts=num_experts)
        except AgentConfigError as error:
            raise ConfigError(f"agent {self.name!r}: {error}") from error


class Testbed(_Table, frozen=True, kw_only=True):
    """A testbed file, checked."""

    __test__ = False  # the name is the domain's, not pytest's

    model: ModelEntry
    policy: PolicyEntry = PolicyEntry()
    radio: RadioEntry = RadioEntry()
    sounding: SoundingEntry | None = None
    security: SecurityEntry = SecurityEntry()
    flash: FlashEntry = FlashEntry()
    faults: FaultsEntry = FaultsEntry()
    agent: Annotated[list[AgentEntry], Meta(min_length=1)]

    def __post_init__(self) -> None:
        for key in ("name", "address"):
            values = [getattr(entry, key) for entry in self.agent]
            twice = {value for value in values if values.count(value) > 1}
            if twice:
                raise ValueError(f"{key} of more than one [[agent]]: {', '.join(sorted(twice))}")
