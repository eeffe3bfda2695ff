r"""The testbed file: which model, which policy, which air, which agents.

.. code-block:: toml

    [model]
    bundle = "mixtral.bundle"        # relative to this file

    [policy]
    name = "siftmoe"
    options = { tolerance = 0.05 }

    [radio]
    bandwidth_hz = 2e6
    deadline_s = 0.074
    fading = "rayleigh"

    [[agent]]
    name = "bench-1"
    address = "tcp://192.168.1.21:5555"
    experts = "0:0,0:1"              # or "*:0", or [[0, 0], [0, 1]], or "auto"
    distance_m = 4.0

A misspelt key, a value out of bounds or an agent named twice is a `ConfigError` that names the
file, the place in it and what was expected.
"""

from __future__ import annotations

import difflib
import re
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

import msgspec
from msgspec import Meta

from siftmoe.agent.config import select_experts
from siftmoe.agent.errors import ConfigError as AgentConfigError
from siftmoe.coordinator.errors import ConfigError

#: Layer and expert, both counted from 0.
ExpertId: TypeAlias = tuple[int, int]

Name = Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$")]
Address = Annotated[
    str, Meta(pattern=r"^(tcp://[^\s:/]+:\d{1,5}|tcp://\[[^\s\]]+\]:\d{1,5}|ipc://\S+)$")
]
Index = Annotated[int, Meta(ge=0)]
Positive = Annotated[float, Meta(gt=0.0, le=1e12)]
NotNegative = Annotated[float, Meta(ge=0.0, le=1e12)]

_FORMS = {
    "name": "letters, digits, '.', '_' and '-', at most 63",
    "address": "tcp://HOST:PORT or ipc://PATH",
    "experts": '"auto", pairs like [[0, 1], [0, 2]], or a selection like "0:1,1:*"',
}
_SELECTION = re.compile(r"auto|[\d*-]+:[\d*-]+(,\s*[\d*-]+:[\d*-]+)*")
_UNKNOWN_KEY = re.compile(r"Object contains unknown field `(?P<key>[^`]*)`")
_PLACE = re.compile(r" - at `\$(?P<path>[^`]*)`$")


class _Table(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A TOML table whose keys are all known."""


class ModelEntry(_Table, frozen=True, kw_only=True):
    """``[model]``: the bundle, a folder that ``siftmoe prepare`` wrote."""

    bundle: Annotated[str, Meta(min_length=1)]


class PolicyEntry(_Table, frozen=True, kw_only=True):
    """``[policy]``: a policy's name and its own options, which the policy checks."""

    name: Name = "topk"
    options: dict[str, Any] = {}


class RadioEntry(_Table, frozen=True, kw_only=True):
    """``[radio]``: the air between the user's device and the helpers.

    Parameters
    ----------
    bandwidth_hz : float, Hz
        Of one link; every helper has its own band.
    deadline_s : float, s
        Airtime that one token's transmission may take, one direction.
    tx_power_limit_w : float, W
        Power limit of either side.
    noise_figure_db : float, dB
        Of the receivers.
    payload_dtype : str
        Precision in which hidden states travel.
    downlink_price : float
        Price of a helper's joule in the selection; 0 counts only the user's.
    fading : str
        Small-scale fading of a simulated link; "none" has the mean gain always.
    fading_process : str
        How it changes: a new draw per coherence time, Clarke's spectrum, or first-order
        autoregressive.
    rician_k_db : float, dB
        Power of the direct path over that of the scattered ones, for "rician".
    coherence_time_s : float, s
        How long a simulated link keeps its response.
    carrier_hz : float, Hz
        Sets the mean gain at 1 m: free space.
    path_loss_exponent : float
        Beyond 1 m.
    gain_floor : float
        Least fading gain, linear, over its mean: deeper fades are cut, since the mean energy of
        inverting a Rayleigh channel does not exist.
    seed : int
        Of the simulated links.
    """

    bandwidth_hz: Annotated[float, Meta(ge=1e3, le=1e11)] = 2e6
    deadline_s: Annotated[float, Meta(gt=0.0, le=60.0)] = 0.074
    tx_power_limit_w: Positive = 1.0
    noise_figure_db: Annotated[float, Meta(ge=0.0, le=60.0)] = 5.0
    payload_dtype: Literal["float32", "float16"] = "float16"
    downlink_price: NotNegative = 0.0
    fading: Literal["rayleigh", "rician", "none"] = "rayleigh"
    fading_process: Literal["block", "jakes", "gauss-markov"] = "block"
    rician_k_db: Annotated[float, Meta(ge=-60.0, le=60.0)] = 6.0
    coherence_time_s: Positive = 0.1
    carrier_hz: Annotated[float, Meta(ge=1e6, le=1e12)] = 2.4e9
    path_loss_exponent: Annotated[float, Meta(ge=1.0, le=8.0)] = 3.0
    gain_floor: Annotated[float, Meta(ge=0.0, lt=1.0)] = 0.05
    seed: Index = 0


class AgentEntry(_Table, frozen=True, kw_only=True):
    """``[[agent]]``: one helper.

    Parameters
    ----------
    name : str
    address : str
        ``tcp://host:port`` or ``ipc://path`` where its agent listens.
    experts : str or list
        "auto", pairs of layer and expert as ``[[0, 1], [0, 2]]``, or a selection such as
        ``"0:1,1:*"`` as the agent itself takes it.
    memory_bytes : int or None
        What it may spend on experts; with it, "auto" places by memory.
    distance_m : float, m
        From the user's device, for the path loss of a simulated link.
    radio : str or None
        URI of its radio.
    ssh : str or None
        ``user@host`` by which it is provisioned.
    key : str or None
        Its public CURVE key, Z85.
    """

    name: Name
    address: Address
    experts: str | list[tuple[Index, Index]] = "auto"
    memory_bytes: Annotated[int, Meta(gt=0)] | None = None
    distance_m: Positive = 10.0
    radio: Annotated[str, Meta(min_length=1)] | None = None
    ssh: Annotated[str, Meta(min_length=1)] | None = None
    key: Annotated[str, Meta(min_length=40, max_length=40)] | None = None

    def __post_init__(self) -> None:
        # Not a pattern in the annotation: msgspec 0.22 frees a pattern beside a list twice.
        if isinstance(self.experts, str):
            if _SELECTION.fullmatch(self.experts) is None:
                raise ValueError(f"experts of agent {self.name!r}: expected {_FORMS['experts']}")
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
    agent: Annotated[list[AgentEntry], Meta(min_length=1)]

    def __post_init__(self) -> None:
        for key in ("name", "address"):
            values = [getattr(entry, key) for entry in self.agent]
            twice = {value for value in values if values.count(value) > 1}
            if twice:
                raise ValueError(f"{key} of more than one [[agent]]: {', '.join(sorted(twice))}")


def load_testbed(path: str | Path) -> Testbed:
    """Read and check a testbed file.

    Parameters
    ----------
    path : str or Path
        A relative bundle in it is taken from the file's folder.

    Raises
    ------
    ConfigError
        If it cannot be read, is no TOML, or does not say what a testbed must say.
    """
    path = Path(path)
    try:
        testbed = msgspec.toml.decode(path.read_bytes(), type=Testbed)
    except OSError as error:
        raise ConfigError(f"testbed {str(path)!r} cannot be read: {error}") from error
    except msgspec.ValidationError as error:
        raise ConfigError(f"testbed {str(path)!r}: {_explain(str(error))}") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"testbed {str(path)!r} is not valid TOML: {error}") from error
    bundle = str(path.parent / Path(testbed.model.bundle).expanduser())
    return msgspec.structs.replace(testbed, model=ModelEntry(bundle=bundle))


def _explain(message: str) -> str:
    """Turn msgspec's message around: first the place in the file, then what is wrong there."""
    place = _PLACE.search(message)
    where = place["path"].lstrip(".") if place else ""
    what = message[: place.start()] if place else message
    unknown = _UNKNOWN_KEY.fullmatch(what)
    if unknown:
        what = f"unknown key {unknown['key']!r}{_suggestion(unknown['key'], where)}"
    if "matching regex" in what:
        what = f"expected {_FORMS[where.rpartition('.')[2]]}"
    return f"{where}: {what}" if where else what


def _suggestion(key: str, where: str) -> str:
    tables: dict[str, type[_Table]] = {
        "": Testbed,
        "model": ModelEntry,
        "policy": PolicyEntry,
        "radio": RadioEntry,
        "agent": AgentEntry,
    }
    known = tables[where.partition("[")[0]].__struct_fields__
    close = difflib.get_close_matches(key, known, n=1)
    return f"; did you mean {close[0]!r}?" if close else f"; known are {', '.join(known)}"
