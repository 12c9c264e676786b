"""Hooks around every run: guards, credentials, outputs, accepted defects, and status, and tracking in MLflow."""

from synapseclr.hooks.guards import EnvironmentGuard, LogGuard, ParameterGuard, ReadOnlyGuard, SimulationGuard
from synapseclr.hooks.inputs_and_outputs import (
    DefectExclusion,
    FreedMemory,
    OneWriter,
    OutputCare,
    PipelineClock,
    StorageCredentials,
)
from synapseclr.hooks.status import RunStatus
from synapseclr.hooks.tracking import RunTracking, untracked

__all__ = [
    "DefectExclusion",
    "EnvironmentGuard",
    "FreedMemory",
    "LogGuard",
    "OneWriter",
    "OutputCare",
    "ParameterGuard",
    "PipelineClock",
    "ReadOnlyGuard",
    "RunStatus",
    "RunTracking",
    "SimulationGuard",
    "StorageCredentials",
    "untracked",
]
