"""What happens around every run: guards, the clock, and tracking in MLflow."""

from synapseclr.hooks.guards import EnvironmentGuard, ParameterGuard, ReadOnlyGuard, SimulationGuard
from synapseclr.hooks.outputs import OutputCare
from synapseclr.hooks.saving import OneWriter, PipelineClock
from synapseclr.hooks.tracking import RunTracking, end_as_killed, untracked

__all__ = [
    "EnvironmentGuard",
    "OneWriter",
    "OutputCare",
    "ParameterGuard",
    "PipelineClock",
    "ReadOnlyGuard",
    "RunTracking",
    "SimulationGuard",
    "end_as_killed",
    "untracked",
]
