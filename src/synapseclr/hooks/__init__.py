"""What happens around every run: guards, the clock, and tracking in MLflow."""

from synapseclr.hooks.defect_exclusion import DefectExclusion
from synapseclr.hooks.guards import EnvironmentGuard, LogGuard, ParameterGuard, ReadOnlyGuard, SimulationGuard
from synapseclr.hooks.outputs import OutputCare
from synapseclr.hooks.saving import OneWriter, PipelineClock
from synapseclr.hooks.storage_credentials import StorageCredentials
from synapseclr.hooks.tracking import RunTracking, untracked

__all__ = [
    "DefectExclusion",
    "EnvironmentGuard",
    "LogGuard",
    "OneWriter",
    "OutputCare",
    "ParameterGuard",
    "PipelineClock",
    "ReadOnlyGuard",
    "RunTracking",
    "SimulationGuard",
    "StorageCredentials",
    "untracked",
]
