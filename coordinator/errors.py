"""Errors of the coordinator.

::

    CoordinatorError
    ├── ConfigError             a testbed file or an option is wrong
    ├── AgentUnreachable        an agent is dead, wedged or was never there
    ├── DeadlineMissed          no answer within a request's deadline
    ├── AgentRefused            an agent answered with an error
    ├── AgentDistrusted         an agent's results are wrong
    ├── PlacementError          an expert has no host, or does not fit
    ├── InfeasibleSelection     no plan satisfies the budget on the reachable helpers
    ├── StaleChannelState       a channel state is older than the policy may use
    ├── RadioMissing            a radio is missing and simulating its link was not allowed
    └── LedgerError             the ledger cannot be written
"""

from __future__ import annotations


class CoordinatorError(Exception):
    """Root of the coordinator's errors."""


class ConfigError(CoordinatorError):
    """A testbed file or an option is wrong."""


class AgentUnreachable(CoordinatorError):
    """An agent is dead, wedged or was never there."""


class DeadlineMissed(CoordinatorError):
    """No answer came within a request's deadline."""


class AgentRefused(CoordinatorError):
    """An agent answered a request with an error."""


class AgentDistrusted(CoordinatorError):
    """An agent's results differ from those of a second computation, or from all profiled ones."""


class PlacementError(CoordinatorError):
    """An expert has no host, or an agent cannot hold what it was given."""


class InfeasibleSelection(CoordinatorError):
    """No plan satisfies the budget on the reachable helpers."""


class StaleChannelState(CoordinatorError):
    """A channel state is older than the policy may use."""


class RadioMissing(CoordinatorError):
    """A radio is missing, and simulating its link was not allowed."""


class LedgerError(CoordinatorError):
    """The ledger cannot be written."""
