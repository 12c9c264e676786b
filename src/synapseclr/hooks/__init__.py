"""What happens around every run: guards, the clock, and tracking in MLflow."""

from synapseclr.hooks.guards import LogGuard, ParameterGuard, ReadOnlyGuard, SimulationGuard
from synapseclr.hooks.saving import OneWriter, PipelineClock
from synapseclr.hooks.tracking import RunTracking, untracked

__all__ = [
    "LogGuard",
    "OneWriter",
    "ParameterGuard",
    "PipelineClock",
    "ReadOnlyGuard",
    "RunTracking",
    "SimulationGuard",
    "untracked",
]
