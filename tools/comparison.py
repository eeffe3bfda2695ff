"""Compare policies on one fleet of local agents: the flow of the main job."""

from __future__ import annotations

import datetime
import json
import signal
import sys
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from siftmoe.coordinator.assembly import air_interface, payload_bits, simulated_links
from siftmoe.coordinator.config import RadioEntry
from siftmoe.coordinator.coordinator import Coordinator
from siftmoe.coordinator.ledger import Ledger
from siftmoe.coordinator.policies.registry import make_policy
from siftmoe.coordinator.problems import unknown_tables
from siftmoe.coordinator.selection import Budget, BudgetKind
from siftmoe.coordinator.session import Session
from siftmoe.models.tasks import GenerationTask, load_task
from siftmoe.tools.bundles import open_with_progress
from siftmoe.tools.console import progress_bar, stderr_console, stdout_console, table
from siftmoe.tools.local_fleet import local_fleet
from siftmoe.tools.report import CONFIG_FILE, si, table_rows, write_report
from siftmoe.tools.results import (
    LEDGER_FILE,
    answer_label,
    load_results,
    save_scores,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from siftmoe.models.bundle import Bundle
    from siftmoe.models.tasks import Task
    from siftmoe.tools.local_fleet import LocalFleet

#: All helpers stand at one distance: what differs between links is fading alone.
DISTANCE_M = 20.0
#: SiftMoE's operating point: a Mixtral token, 4096 x 16 bit, over 2 MHz in 0.074 s.
PAPER_BITS_PER_HERTZ = 4096 * 16 / (2e6 * 0.074)
SIMULATED = "Simulated links, no radio was used: every energy and airtime here is modelled."

_INTERRUPTED = 130


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
    payload_dtype: str
    batch_size: int
    realtime: bool


@dataclass(kw_only=True)
class Comparison:
    """The parts that all policies of a comparison share."""

    options: Options
    radio: RadioEntry
    bundle: Bundle
    session: Session
    tasks: list[Task | GenerationTask]
    fleet: LocalFleet
    ledger: Ledger
    out: Path
    scores: dict[str, dict[str, Any]] = field(default_factory=dict)

    def run(self, policy: str) -> None:
        """Answer the prompt and evaluate the tasks under one policy; the links start anew."""
        console = stderr_console()
        console.print(f"\n[bold]{policy}[/bold]  {self.options.prompt}", end="")
        answer = self._coordinated(
            answer_label(policy),
            policy,
            lambda: self.session.generate(
                self.options.prompt,
                max_new_tokens=self.options.answer_tokens,
                on_text=lambda text: console.print(text, end="", markup=False, style="green"),
            ),
        )
        console.print()
        metrics = self._coordinated(policy, policy, lambda: self._evaluate(policy))
        self.scores[policy] = {"answer": answer, "metrics": metrics}
        save_scores(self.out, self.scores)

    def _coordinated(self, label: str, policy: str, work: Any) -> Any:
        """Do something with the model attached to a new coordinator whose clock starts at 0."""
        self.ledger.start_run(label, {"policy": policy})
        shape = self.bundle.shape
        coordinator = Coordinator(
            fleet=self.fleet.fleet,
            dispatcher=self.fleet.dispatcher,
            links=simulated_links(self.radio, [DISTANCE_M] * self.options.agents),
            air=air_interface(self.radio, shape),
            policy=make_policy(policy),
            tables=unknown_tables(
                shape.num_layers,
                shape.num_experts,
                budget=Budget(kind=BudgetKind.PER_TOKEN, value=0.0),
            ),
            ledger=self.ledger,
            realtime=self.options.realtime,
        )
        coordinator.attach(self.session.model)
        try:
            return work()
        finally:
            coordinator.detach()

    def _evaluate(self, policy: str) -> dict[str, tuple[float, float]]:
        metrics: dict[str, tuple[float, float]] = {}
        for task in self.tasks:
            total = len(task.prompts if isinstance(task, GenerationTask) else task.sequences)
            with progress_bar(f"{policy}: {task.name}", total) as advance:
                result = self.session.evaluate(
                    task, batch_size=self.options.batch_size, on_progress=advance
                )
            for name, metric in result.metrics.items():
                metrics[name] = (metric.value, metric.standard_error or 0.0)
        return metrics


def compare(options: Options, *, out: Path | None, as_json: bool) -> int:
    """Run the comparison and write its folder; returns the exit status.

    Parameters
    ----------
    options : Options
    out : Path or None
        A folder that does not exist or is empty; None takes the next free one under ``runs``.
    as_json : bool
        Print the results as one JSON object instead of a table.

    Raises
    ------
    ValueError
        If an option is unknown, or ``out`` already holds something.
    """
    for name in options.policies:
        make_policy(name)  # an unknown one is told before anything starts
    console = stderr_console()
    console.print(f"[bold]siftmoe loopback[/bold]  {SIMULATED}")
    bundle = open_with_progress(options.model)
    radio = _radio(options, bundle.shape.hidden_size)
    tokenizer = bundle.load_tokenizer()
    tasks = [load_task(spec, tokenizer=tokenizer, limit=options.items) for spec in options.tasks]
    config = _describe(options, radio, bundle)
    console.print(config["operating_point"])
    out = _make_folder(out)
    (out / CONFIG_FILE).write_text(json.dumps(config, indent=1) + "\n", encoding="utf-8")
    interrupted = False
    with Ledger.create(out / LEDGER_FILE, config, label="start") as ledger:
        try:
            with (
                _terminable(),
                local_fleet(bundle, options.agents, payload_dtype=radio.payload_dtype) as fleet,
            ):
                comparison = Comparison(
                    options=options,
                    radio=radio,
                    bundle=bundle,
                    session=Session(bundle.load_backbone(), tokenizer),
                    tasks=tasks,
                    fleet=fleet,
                    ledger=ledger,
                    out=out,
                )
                for policy in options.policies:
                    comparison.run(policy)
        except KeyboardInterrupt:
            interrupted = True
    if interrupted:
        console.print(f"\ninterrupted; what was booked is in {out / LEDGER_FILE}")
        return _INTERRUPTED
    _show(out, config, as_json=as_json)
    return 0


def _radio(options: Options, hidden_size: int) -> RadioEntry:
    radio = msgspec.convert(
        {
            "bandwidth_hz": options.bandwidth_hz,
            "fading": options.fading,
            "coherence_time_s": options.coherence_time_s,
            "seed": options.seed,
            "payload_dtype": options.payload_dtype,
        },
        RadioEntry,
    )
    bits = payload_bits(radio, hidden_size)
    deadline_s = options.deadline_s or bits / (options.bandwidth_hz * PAPER_BITS_PER_HERTZ)
    return msgspec.structs.replace(radio, deadline_s=deadline_s)


def _describe(options: Options, radio: RadioEntry, bundle: Bundle) -> dict[str, Any]:
    air = air_interface(radio, bundle.shape)
    density = air.bits_per_hertz(radio.bandwidth_hz)
    where = "the paper's operating point" if _is_paper(density) else "not the paper's 0.44"
    return {
        "model": options.model,
        "started": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "siftmoe": version("siftmoe"),
        "note": SIMULATED,
        "operating_point": (
            f"{air.payload_bits} bit per token over {radio.bandwidth_hz / 1e6:g} MHz in "
            f"{si(air.token_deadline_s, 's')} each way: {density:.2f} bit/s/Hz ({where}; a batch "
            f"shares its tokens' deadlines); {options.agents} agents, {radio.fading} fading"
        ),
        "prompt": options.prompt,
        "options": asdict(options),
        "radio": msgspec.structs.asdict(radio),
        "model_hash": bundle.manifest.model_hash,
        "command": sys.argv[1:],
    }


def _is_paper(bits_per_hertz: float) -> bool:
    return abs(bits_per_hertz / PAPER_BITS_PER_HERTZ - 1.0) < 0.01


def _make_folder(out: Path | None) -> Path:
    if out is None:
        number = 1
        while (out := Path("runs") / f"loopback-{number}").exists():
            number += 1
    elif out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ValueError(f"--out {str(out)!r} exists and is not empty; name another folder")
    out.mkdir(parents=True, exist_ok=True)
    return out


@contextmanager
def _terminable() -> Iterator[None]:
    """Let SIGTERM end the run as Ctrl-C does: agents stopped, ledger closed."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    previous = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)


def _show(out: Path, config: dict[str, Any], *, as_json: bool) -> None:
    results = load_results(out)
    report = write_report(out, results, config)
    if as_json:
        rows = [
            {**asdict(result), "gains_by_agent": None, "policy": result.policy}
            for result in results
        ]
        print(json.dumps({"config": config, "report": str(report), "results": rows}))
        return
    header, rows_text = table_rows(results)
    console = stdout_console()
    console.print()
    console.print(table(header, rows_text))
    console.print(config["operating_point"])
    console.print(SIMULATED)
    console.print(f"report: {report}", soft_wrap=True)
