"""Energy-aware mixture-of-experts inference over wireless helpers.

.. code-block:: python

    import siftmoe

    with siftmoe.local("upcycled", agents=4, policy="siftmoe:loss=0.025") as run:
        print(run.generate("Return the number of"))
        print(run.table())

Names are imported when they are used: ``import siftmoe`` loads neither torch nor numpy. What a
program may import is what stands in ``__all__`` here; everything else may move.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from siftmoe.coordinator.air.protocol import Air as Air
    from siftmoe.coordinator.config.radio import RadioEntry as RadioEntry
    from siftmoe.coordinator.links.assembly import simulated_links as simulated_links
    from siftmoe.coordinator.links.sources import LinkSource as LinkSource
    from siftmoe.coordinator.links.states import Links as Links
    from siftmoe.coordinator.links.states import LinkStates as LinkStates
    from siftmoe.coordinator.policies.keeping import plan_keeping as plan_keeping
    from siftmoe.coordinator.selection.policy import Policy as Policy
    from siftmoe.coordinator.selection.policy import PolicyRun as PolicyRun
    from siftmoe.coordinator.selection.problem import SelectionPlan as SelectionPlan
    from siftmoe.coordinator.selection.problem import SelectionProblem as SelectionProblem
    from siftmoe.models.bundle.reader import Bundle as Bundle
    from siftmoe.models.tasks.task import GenerationTask as GenerationTask
    from siftmoe.models.tasks.task import Task as Task
    from siftmoe.models.tasks.task import choice_task as choice_task
    from siftmoe.models.tasks.task import perplexity_task as perplexity_task
    from siftmoe.tools.library.deployment import Deployment as Deployment
    from siftmoe.tools.library.local import local as local
    from siftmoe.tools.library.testbed import connect as connect

    __version__: str

#: Public name -> module that has it.
_HOMES = {
    "Air": "siftmoe.coordinator.air.protocol",
    "Bundle": "siftmoe.models.bundle.reader",
    "Deployment": "siftmoe.tools.library.deployment",
    "GenerationTask": "siftmoe.models.tasks.task",
    "LinkSource": "siftmoe.coordinator.links.sources",
    "LinkStates": "siftmoe.coordinator.links.states",
    "Links": "siftmoe.coordinator.links.states",
    "Policy": "siftmoe.coordinator.selection.policy",
    "PolicyRun": "siftmoe.coordinator.selection.policy",
    "RadioEntry": "siftmoe.coordinator.config.radio",
    "SelectionPlan": "siftmoe.coordinator.selection.problem",
    "SelectionProblem": "siftmoe.coordinator.selection.problem",
    "Task": "siftmoe.models.tasks.task",
    "choice_task": "siftmoe.models.tasks.task",
    "connect": "siftmoe.tools.library.testbed",
    "local": "siftmoe.tools.library.local",
    "perplexity_task": "siftmoe.models.tasks.task",
    "plan_keeping": "siftmoe.coordinator.policies.keeping",
    "simulated_links": "siftmoe.coordinator.links.assembly",
}

__all__ = [
    "Air",
    "Bundle",
    "Deployment",
    "GenerationTask",
    "LinkSource",
    "LinkStates",
    "Links",
    "Policy",
    "PolicyRun",
    "RadioEntry",
    "SelectionPlan",
    "SelectionProblem",
    "Task",
    "__version__",
    "choice_task",
    "connect",
    "local",
    "perplexity_task",
    "plan_keeping",
    "simulated_links",
]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("siftmoe")
    if name not in _HOMES:
        raise AttributeError(f"module 'siftmoe' has no attribute {name!r}")
    found = globals()[name] = getattr(import_module(_HOMES[name]), name)
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
