"""Runs in MLflow: logging to a server that may be away, and marking of runs that were killed."""

from synapseclr.tracking.git import git_state
from synapseclr.tracking.outbox import Outbox, current_outbox, log_metrics, set_current_outbox, set_tags
from synapseclr.tracking.server import answers, request_limits, shown

__all__ = [
    "Outbox",
    "answers",
    "current_outbox",
    "git_state",
    "log_metrics",
    "request_limits",
    "set_current_outbox",
    "set_tags",
    "shown",
]
