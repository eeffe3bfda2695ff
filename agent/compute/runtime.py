"""The experts that an agent hosts, and the computation of their weighted sums.

There is one ONNX Runtime session per resident expert. Loading checks each file's hash and proves
the provider on every expert's golden input; a provider that fails on one expert is used for none.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from siftmoe.agent.compute.memory import release_free_memory, resident_memory
from siftmoe.agent.compute.providers import PROVIDERS, open_session, prove
from siftmoe.agent.errors import ExpertNotResident, OutOfMemory, ProviderUnavailable, ShapeMismatch

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from siftmoe.agent.wire.packed import Vectors
    from siftmoe.models.bundle.manifest import Manifest

    FloatArray = NDArray[np.floating[Any]]
    Residents = Sequence[tuple[int, int]]

_DTYPES = {"float32": np.dtype(np.float32), "float16": np.dtype(np.float16)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Expert:
    """A resident expert: its session, the size of its file, and the memory that loading added."""

    session: Any
    file_bytes: int
    memory_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Runtime:
    """Resident experts on one proven provider.

    Parameters
    ----------
    experts : dict of (layer, expert) -> Expert
    provider : str
        ONNX Runtime's name of the provider.
    refused : dict of str -> str
        Providers that were tried before it, and the reason why each was not used.
    hidden_size : int
        Length d of a hidden vector.
    dtype : str
        Data type in which the experts compute, "float32" or "float16".
    layers : dict of int -> tuple of int
        Resident experts of every layer, ascending.
    """

    experts: dict[tuple[int, int], Expert]
    provider: str
    refused: dict[str, str]
    hidden_size: int
    dtype: str
    layers: dict[int, tuple[int, ...]] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        layers: defaultdict[int, tuple[int, ...]] = defaultdict(tuple)
        for layer, expert in sorted(self.experts):
            layers[layer] += (expert,)
        object.__setattr__(self, "layers", dict(layers))

    @classmethod
    def load(
        cls, manifest: Manifest, residents: Residents, *, providers: Sequence[str], threads: int
    ) -> Runtime:
        """Load experts on the first provider that computes all their golden outputs.

        Raises
        ------
        BundleCorrupt
            If a file is missing or its hash differs from the manifest's.
        ProviderUnavailable
            If no provider of the list passes; the message has the reason for each.
        OutOfMemory
            If the experts do not fit into memory.
        """
        paths = {key: manifest.verify_file(manifest.expert_file(*key)) for key in residents}
        refused: dict[str, str] = {}
        for name in providers:
            try:
                experts = _load_all(manifest, paths, provider=name, threads=threads)
            except ProviderUnavailable as error:
                refused[name] = str(error)
                continue
            return cls(
                experts=experts,
                provider=PROVIDERS[name],
                refused=refused,
                hidden_size=manifest.shape.hidden_size,
                dtype=manifest.dtype,
            )
        reasons = "; ".join(f"{name}: {reason}" for name, reason in refused.items())
        raise ProviderUnavailable(f"bundle {str(manifest.root)!r}: no provider works: {reasons}")

    @property
    def residents(self) -> tuple[tuple[int, int], ...]:
        """(layer, expert) of every resident expert, sorted."""
        return tuple(sorted(self.experts))

    def experts_of(self, layer: int) -> tuple[int, ...]:
        """Resident experts of a layer, ascending; empty if there are none."""
        return self.layers.get(layer, ())

    @property
    def file_bytes(self) -> int:
        """Size of the resident experts' files."""
        return sum(expert.file_bytes for expert in self.experts.values())

    @property
    def memory_bytes(self) -> int:
        """Memory that loading the experts added to the process, bytes."""
        return sum(expert.memory_bytes for expert in self.experts.values())

    def check(self, layer: int, hidden: Vectors, experts: Iterable[int]) -> None:
        """Raise ShapeMismatch or ExpertNotResident if this cannot be computed here."""
        if hidden.shape[1] != self.hidden_size:
            raise ShapeMismatch(
                f"hidden vectors of {hidden.shape[1]}, the model served has {self.hidden_size}"
            )
        for expert in experts:
            if (layer, expert) not in self.experts:
                raise ExpertNotResident(
                    f"expert {expert} of layer {layer} is not hosted here; ask hello who hosts it"
                )

    def apply(
        self,
        layer: int,
        hidden: FloatArray,
        *,
        pairs: NDArray[np.int32],
        weights: NDArray[np.float32],
    ) -> NDArray[np.float32]:
        """Return the weighted sum over its experts for each row; rows without a pair are 0.

        Parameters
        ----------
        layer : int
        hidden : (n, d) float32 or float16
        pairs : (m, 2) int32
            (row, expert).
        weights : (m,) float32

        Returns
        -------
        (n, d) float32
            Summed in float32, in whatever type the experts compute.

        Raises
        ------
        ExpertNotResident, ShapeMismatch
            As :meth:`check`.
        OutOfMemory
            If the batch does not fit into memory.
        """
        groups = _by_expert(pairs)
        self.check(layer, hidden, groups)
        every_row = list(range(len(hidden)))
        total: NDArray[np.float32] | None = None
        for expert, (rows, places) in groups.items():
            # A numpy call right after a run finds cold caches and takes 10 µs: skip calls that
            # change nothing.
            chosen = hidden if rows == every_row else hidden.take(rows, axis=0)
            output = self._run(layer, expert, chosen)  # [rows of this expert, d]
            output *= weights.take(places)[:, None]
            if total is None and rows == every_row:
                total = output
                continue
            if total is None:
                total = np.zeros(hidden.shape, np.float32)
            _add_rows(total, rows, output)
        return np.zeros(hidden.shape, np.float32) if total is None else total

    def _run(self, layer: int, expert: int, hidden: FloatArray) -> NDArray[np.float32]:
        rows, flags = hidden, hidden.flags
        if hidden.dtype is not _DTYPES[self.dtype] or not (flags.c_contiguous and flags.aligned):
            with np.errstate(over="ignore"):  # beyond float16 is infinite, as in the model itself
                rows = np.require(hidden, self.dtype, ["C", "A"])
        try:
            (output,) = self.experts[layer, expert].session.run(["output"], {"hidden": rows})
        except Exception as error:
            if "alloc" in str(error) or isinstance(error, MemoryError):
                raise OutOfMemory(
                    f"{len(hidden)} rows do not fit into memory; send fewer at a time"
                ) from error
            raise
        result: NDArray[np.float32] = output.astype(np.float32, copy=False)
        return result


def _load_all(
    manifest: Manifest, paths: dict[tuple[int, int], Path], *, provider: str, threads: int
) -> dict[tuple[int, int], Expert]:
    golden = {layer: manifest.read_golden(layer) for layer in {layer for layer, _ in paths}}
    experts = {}
    release_free_memory()  # the memory of the experts is measured from here
    for (layer, index), path in paths.items():
        before = resident_memory()
        session = open_session(path, provider=provider, threads=threads)
        try:
            prove(
                session,
                golden_input=golden[layer].input,
                golden_output=golden[layer].output[index],
                dtype=manifest.dtype,
            )
        except ProviderUnavailable as error:
            raise ProviderUnavailable(f"expert {index} of layer {layer}: {error}") from error
        release_free_memory()
        experts[layer, index] = Expert(
            session=session,
            file_bytes=path.stat().st_size,
            memory_bytes=max(0, resident_memory() - before),
        )
    return experts


def _by_expert(pairs: NDArray[np.int32]) -> dict[int, tuple[list[int], list[int]]]:
    """Return for each expert its rows and the positions of the (row, expert) pairs."""
    groups: dict[int, tuple[list[int], list[int]]] = {}
    for place, (row, expert) in enumerate(pairs.tolist()):
        rows, places = groups.setdefault(expert, ([], []))
        rows.append(row)
        places.append(place)
    return groups


def _add_rows(total: NDArray[np.float32], rows: list[int], output: NDArray[np.float32]) -> None:
    if len(set(rows)) < len(rows):  # the same (row, expert) twice: both count
        np.add.at(total, rows, output)
    else:
        total[rows] += output
