"""Compare policies on one fleet of local agents: the flow of the main job."""

from __future__ import annotations

import json
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from siftmoe.coordinator.assembly import air_interface, simulated_links
from siftmoe.coordinator.clock import VirtualClock
from siftmoe.coordinator.config_radio import RadioEntry
from siftmoe.coordinator.coordinator import Coordinator
from siftmoe.coordinator.ledger import Ledger
from siftmoe.coordinator.policies.spec import PolicySpec
from siftmoe.coordinator.policies.wdmoe import wdmoe_links
from siftmoe.coordinator.policy_setup import prepare_policy
from siftmoe.coordinator.session import Session
from siftmoe.models.tasks import GenerationTask, load_task
from siftmoe.tools.bundles import open_with_progress
from siftmoe.tools.comparison_setup import (
    DISTANCE_M,
    LOSS,
    SIMULATED,
    Options,
    check_policies,
    describe,
    load_profile,
    make_folder,
    radio_settings,
    with_budget,
)
from siftmoe.tools.console import progress_bar, stderr_console, stdout_console, table
from siftmoe.tools.exchange_rate import Trials, find_rate, validation_task
from siftmoe.tools.inprocess import ExpertsInProcess
from siftmoe.tools.interrupts import terminable
from siftmoe.tools.local_fleet import check_agents, local_fleet
from siftmoe.tools.report import CONFIG_FILE, remarks, table_rows, write_report
from siftmoe.tools.results import (
    LEDGER_FILE,
    answer_label,
    load_results,
    save_scores,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from siftmoe.models.bundle import Bundle
    from siftmoe.models.similarity import Profile
    from siftmoe.models.tasks import Task
    from siftmoe.tools.local_fleet import LocalFleet

_INTERRUPTED = 130


@dataclass(kw_only=True)
class Comparison:
    """The parts that all policies of a comparison share."""

    options: Options
    radio: RadioEntry
    bundle: Bundle
    profile: Profile | None
    session: Session
    tasks: list[Task | GenerationTask]
    fleet: LocalFleet
    ledger: Ledger
    out: Path
    scores: dict[str, dict[str, Any]] = field(default_factory=dict)

    @cached_property
    def experts(self) -> ExpertsInProcess:
        """All experts in this process: for trials on validation text and for audits."""
        return ExpertsInProcess(self.bundle, payload_dtype=self.radio.payload_dtype)

    def run(self, policy: PolicySpec) -> None:
        """Answer the prompt and evaluate the tasks under one policy; the links start anew."""
        console, label = stderr_console(), str(policy)
        resolved = self._with_rate(policy)
        console.print(f"\n[bold]{label}[/bold]  {self.options.prompt}", end="")
        with self._coordinated(answer_label(label), resolved):
            answer = self.session.generate(
                self.options.prompt,
                max_new_tokens=self.options.answer_tokens,
                on_text=lambda text: console.print(text, end="", markup=False, style="green"),
            )
        console.print()
        with self._coordinated(label, resolved):
            metrics = self._evaluate(label)
        self.scores[label] = {"answer": answer, "metrics": metrics, "policy": str(resolved)}
        save_scores(self.out, self.scores)

    def _with_rate(self, policy: PolicySpec) -> PolicySpec:
        """Replace a stated loss by the exchange rate that brings it about on validation text."""
        loss = policy.number(LOSS)
        if loss is None:
            return policy
        if self.profile is None:
            return policy  # refused with the other policies that need one
        options = {key: value for key, value in policy.options.items() if key != LOSS}
        trials = Trials(
            bundle=self.bundle,
            profile=self.profile,
            session=self.session,
            experts=self.experts,
            radio=self.radio,
            task=validation_task(self.session.tokenizer),
            num_helpers=self.options.agents,
            distance_m=DISTANCE_M,
            batch_size=self.options.batch_size,
        )
        with progress_bar(f"{policy}: rate on validation text", None) as advance:
            rate = find_rate(
                PolicySpec(policy.name, options), trials, loss=loss, on_trial=lambda: advance(1)
            )
        return PolicySpec(policy.name, {**options, "price": rate.price_j_per_nat})

    @contextmanager
    def _coordinated(self, label: str, policy: PolicySpec) -> Iterator[None]:
        """Attach the model to a new coordinator, whose clock starts at 0."""
        self.ledger.start_run(label, {"policy": str(policy)})
        distances = [DISTANCE_M] * self.options.agents
        links = simulated_links(self.radio, distances)
        air = air_interface(self.radio, self.bundle.shape, distances_m=distances)
        prepared = prepare_policy(
            policy,
            shape=self.bundle.shape,
            profile=self.profile,
            links=lambda: wdmoe_links(links.states(coordinator.now_s), air),
        )
        coordinator = Coordinator(
            fleet=self.fleet.fleet,
            dispatcher=self.fleet.dispatcher,
            links=links,
            air=air,
            policy=prepared.select,
            tables=prepared.tables,
            ledger=self.ledger,
            clock=VirtualClock(realtime=self.options.realtime),
            reference=self.experts.undivided if self.options.audit else None,
        )
        with coordinator.attached(self.session.model):
            yield

    def _evaluate(self, label: str) -> dict[str, tuple[float, float]]:
        metrics: dict[str, tuple[float, float]] = {}
        for task in self.tasks:
            total = len(task.prompts if isinstance(task, GenerationTask) else task.sequences)
            with progress_bar(f"{label}: {task.name}", total) as advance:
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
    policies = [with_budget(PolicySpec.parse(text)) for text in options.policies]
    console = stderr_console()
    console.print(f"[bold]siftmoe loopback[/bold]  {SIMULATED}")
    bundle = open_with_progress(options.model)
    check_agents(bundle, options.agents)
    profile = load_profile(bundle)
    check_policies(policies, bundle, profile)
    radio = radio_settings(options, bundle.shape.hidden_size)
    tokenizer = bundle.load_tokenizer()
    tasks = [load_task(spec, tokenizer=tokenizer, limit=options.items) for spec in options.tasks]
    config = describe(options, radio, bundle)
    console.print(config["operating_point"])
    out = make_folder(out)
    (out / CONFIG_FILE).write_text(json.dumps(config, indent=1) + "\n", encoding="utf-8")
    interrupted = False
    with Ledger.create(out / LEDGER_FILE, config, label="start") as ledger:
        try:
            with (
                terminable(),
                local_fleet(bundle, options.agents, payload_dtype=radio.payload_dtype) as fleet,
            ):
                comparison = Comparison(
                    options=options,
                    radio=radio,
                    bundle=bundle,
                    profile=profile,
                    session=Session(bundle.load_backbone(), tokenizer),
                    tasks=tasks,
                    fleet=fleet,
                    ledger=ledger,
                    out=out,
                )
                for policy in policies:
                    comparison.run(policy)
        except KeyboardInterrupt:
            interrupted = True
    if interrupted:
        console.print(f"\ninterrupted; what was booked is in {out / LEDGER_FILE}")
        return _INTERRUPTED
    _show(out, config, as_json=as_json)
    return 0


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
    for remark in remarks(results):
        console.print(remark)
    console.print(config["operating_point"])
    console.print(SIMULATED)
    console.print(f"report: {report}", soft_wrap=True)
