"""Compare policies on a fleet: the flow of `siftmoe loopback` and of `siftmoe run`."""

from __future__ import annotations

import json
import shlex
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol

from siftmoe.coordinator.ledger.store import Ledger
from siftmoe.coordinator.model.session import Session
from siftmoe.coordinator.policies.spec import PolicySpec
from siftmoe.models.checkpoint.tokenizer import chat_ids
from siftmoe.models.similarity.file import rotation_of
from siftmoe.models.tasks.evaluation import lengths_of, load_task
from siftmoe.models.tasks.task import GenerationTask
from siftmoe.tools.bundles import open_with_progress
from siftmoe.tools.comparing.coherence import with_windows
from siftmoe.tools.comparing.inprocess import ExpertsInProcess
from siftmoe.tools.comparing.job import (
    check_policies,
    describe,
    load_profile,
    make_folder,
    with_budget,
)
from siftmoe.tools.comparing.readying import coordinator_for, with_price
from siftmoe.tools.comparing.resumption import check_same, held
from siftmoe.tools.interrupts import terminable
from siftmoe.tools.results.policies import LEDGER_FILE, load_results, load_scores, save_scores
from siftmoe.tools.results.troubles import answer_label
from siftmoe.tools.showing.comparison_table import (
    brief_rows,
    energy_saved,
    legend,
    perplexity_change,
    reference_of,
    table_rows,
)
from siftmoe.tools.showing.joule import part_rows
from siftmoe.tools.showing.remarks import remarks
from siftmoe.tools.showing.report import CONFIG_FILE, write_report
from siftmoe.tools.terminal.console import stderr_console, stdout_console
from siftmoe.tools.terminal.progress import progress_bar, working
from siftmoe.tools.terminal.tables import table

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path

    from siftmoe.coordinator.config.radio import RadioEntry
    from siftmoe.models.bundle.reader import Bundle
    from siftmoe.models.similarity.profile import Profile
    from siftmoe.models.tasks.task import Task
    from siftmoe.tools.comparing.job import Job
    from siftmoe.tools.comparing.site import Site

_INTERRUPTED = 130


class OpenSite(Protocol):
    """Factory of sites: a context manager that connects a fleet and sets up its channel."""

    def __call__(
        self, bundle: Bundle, radio: RadioEntry, ledger: Ledger
    ) -> AbstractContextManager[Site]:
        """Open it."""
        ...


@dataclass(kw_only=True)
class Comparison:
    """The objects that all policies of a comparison share: site, bundle, tokenizer, ledger."""

    job: Job
    radio: RadioEntry
    bundle: Bundle
    profile: Profile | None
    session: Session
    tasks: list[Task | GenerationTask]
    site: Site
    ledger: Ledger
    out: Path
    scores: dict[str, dict[str, Any]] = field(default_factory=dict)

    @cached_property
    def experts(self) -> ExpertsInProcess:
        """All experts in this process: for trials on validation text and for audits."""
        return ExpertsInProcess(self.bundle, rotation=rotation_of(self.bundle))

    @property
    def _asked(self) -> str | list[int]:
        """The prompt, with --chat in the model's chat template."""
        prompt = self.job.prompt
        return chat_ids(self.session.tokenizer, prompt) if self.job.chat else prompt

    def run(self, policy: PolicySpec) -> None:
        """Answer the prompt and evaluate the tasks under one policy."""
        console, label = stderr_console(), str(policy)
        resolved, stated = with_price(
            policy,
            site=self.site,
            bundle=self.bundle,
            profile=self.profile,
            radio=self.radio,
            session=self.session,
            experts=lambda: self.experts,
            batch_size=self.job.batch_size,
        )
        console.print(f"\n{label}", style="bold", end="")
        console.print(f"  {self.job.prompt}", end="")
        with self._coordinated(answer_label(label), resolved):
            try:
                answer = self.session.generate(
                    self._asked,
                    max_new_tokens=self.job.answer_tokens,
                    on_text=lambda text: console.print(text, end="", style="green"),
                )
            finally:
                console.print()  # an error has a line of its own
        with self._coordinated(label, resolved):
            metrics, documents = self._evaluate(label)
        self.scores[label] = {
            "answer": answer,
            "metrics": metrics,
            "policy": str(resolved),
            "documents": documents,
            **({} if stated is None else {"stated": stated}),
            "lengths": lengths_of(self.tasks),
        }
        save_scores(self.out, self.scores)

    @contextmanager
    def _coordinated(self, label: str, policy: PolicySpec) -> Iterator[None]:
        """Attach the model to a new coordinator."""
        self.ledger.start_run(label, {"policy": str(policy)}, again=True)
        coordinator = coordinator_for(
            policy,
            site=self.site,
            bundle=self.bundle,
            profile=self.profile,
            radio=self.radio,
            ledger=self.ledger,
            reference=self.experts.undivided if self.job.audit else None,
        )
        with self.site.metered(self.ledger), coordinator.attached(self.session.model):
            yield

    def _evaluate(self, label: str) -> tuple[dict[str, tuple[float, float]], list[Any]]:
        """Return the metrics of all tasks, and the documents of the last perplexity."""
        metrics: dict[str, tuple[float, float]] = {}
        documents: list[Any] = []
        for task in self.tasks:
            total = len(task.prompts if isinstance(task, GenerationTask) else task.sequences)
            with progress_bar(f"{label}: {task.name}", total) as advance:
                result = self.session.evaluate(
                    task, batch_size=self.job.batch_size, on_progress=advance
                )
            for name, metric in result.metrics.items():
                metrics[name] = (metric.value, metric.standard_error or 0.0)
            documents = [*result.documents] or documents
        return metrics, documents


def compare(
    job: Job,
    *,
    model: str,
    settings: Callable[[int], RadioEntry],
    check: Callable[[Bundle], object],
    open_site: OpenSite,
    before: dict[str, Any] | None = None,
) -> int:
    """Run the comparison and write its folder; returns the exit status.

    Parameters
    ----------
    job : Job
    model : str
        upcycled, scratch, or a bundle's folder.
    settings : callable
        The air, given the model's hidden size.
    check : callable
        Raises if the model does not fit the fleet, before anything is written.
    open_site : OpenSite
    before : dict or None
        Of a resumed run: the configuration it was started with; its folder is the job's.

    Raises
    ------
    ValueError
        If a policy or task is unknown, the folder is not empty, the run to resume was started with
        another configuration, or another process still runs it.
    """
    policies = [with_budget(PolicySpec.parse(text)) for text in job.policies]
    console = stderr_console()
    console.print(f"siftmoe {job.name}", style="bold")
    bundle = open_with_progress(model)
    check(bundle)
    profile = load_profile(bundle)
    radio = settings(bundle.shape.hidden_size)
    check_policies(policies, bundle, profile, radio)
    with working("reading the tasks"):
        tokenizer = bundle.load_tokenizer()
        if job.chat:
            chat_ids(tokenizer, job.prompt)  # a missing template is told before anything starts
        tasks = [
            load_task(spec, tokenizer=tokenizer, limit=job.items, context=bundle.context_length)
            for spec in job.tasks
        ]
    config = describe(job, radio, bundle, model=model)
    console.print(config["operating_point"])
    console.print(config["channel"])
    if before is None:
        out = make_folder(job)
    else:
        out = _folder(job)
        check_same(before, config, folder=out)
        config = before | {"resumed": config["started"]}
    interrupted = False
    with held(out), _open_ledger(out, config, resume=before is not None) as ledger:
        scores = load_scores(out)
        left = [policy for policy in policies if str(policy) not in scores]
        if scores:
            console.print(f"{len(scores)} of {len(policies)} policies are done")
        try:
            with terminable(), open_site(bundle, radio, ledger) as site:
                config |= {"note": site.note, "helpers": _helpers(site)}
                console.print(f"{config['helpers']}. {site.note}")
                (out / CONFIG_FILE).write_text(json.dumps(config, indent=1) + "\n", "utf-8")
                with working("loading the model"):
                    session = Session(bundle.load_backbone(), tokenizer)
                comparison = Comparison(
                    job=job,
                    radio=radio,
                    bundle=bundle,
                    profile=profile,
                    session=session,
                    tasks=tasks,
                    site=site,
                    ledger=ledger,
                    out=out,
                    scores=scores,
                )
                for policy in left:
                    comparison.run(policy)
        except KeyboardInterrupt:
            interrupted = True
    if interrupted:
        console.print(
            f"\ninterrupted; what was booked is in {out / LEDGER_FILE}; go on with:\n"
            f"siftmoe {job.name} --resume {shlex.quote(str(out))}",
            soft_wrap=True,
        )
        return _INTERRUPTED
    config |= with_windows(out, config, radio, policy=str(policies[0]))
    _show(job, out, config)
    return 0


def _open_ledger(out: Path, config: dict[str, Any], *, resume: bool) -> Ledger:
    path = out / LEDGER_FILE
    return Ledger.resume(path) if resume else Ledger.create(path, config, label="start")


def _folder(job: Job) -> Path:
    if job.out is None:
        raise ValueError("a run that is resumed has a folder")
    return job.out


def _helpers(site: Site) -> str:
    count = len(site.fleet.names)
    about = f", {site.about}" if site.about else ""
    return f"{count} agent{'s' if count > 1 else ''}{about}"


def _show(job: Job, out: Path, config: dict[str, Any]) -> None:
    results = load_results(out)
    with working("writing the report"):
        report = write_report(out, results, config)
    if job.as_json:
        rows = [
            {
                **asdict(result),
                "gains_by_agent": None,
                "parts_j_per_token": [
                    {"part": use, "battery": owner, "energy_j": energy_j}
                    for (use, owner), energy_j in result.parts_j_per_token.items()
                ],
                "perplexity_change": perplexity_change(result, reference_of(results)),
                "energy_saved": energy_saved(result, reference_of(results)),
            }
            for result in results
        ]
        print(json.dumps({"config": config, "report": str(report), "results": rows}))
        return
    console = stdout_console(wide=job.wide)
    header, rows_text, caption = (*table_rows(results), "") if job.wide else brief_rows(results)
    console.print()
    console.print(table(header, rows_text))
    said = legend(results)
    console.print(f"{caption}. {said}" if caption else said)
    if job.wide:
        console.print()
        console.print(table(*part_rows(results), foldable=(0, 1)))
    for remark in remarks(results):
        console.print(remark)
    console.print(config["operating_point"])
    console.print(f"{config['helpers']}. {config['note']}")
    for text in (config.get("channel"), config.get("windows", {}).get("warning")):
        if text:
            console.print(text)
    console.print(f"report: {report}", soft_wrap=True)
