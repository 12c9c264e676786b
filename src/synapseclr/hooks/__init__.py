"""Hooks around every run: guards, credentials, outputs, accepted defects, and tracking in MLflow."""

from synapseclr.hooks.defect_exclusion import DefectExclusion
from synapseclr.hooks.guards import EnvironmentGuard, LogGuard, ParameterGuard, ReadOnlyGuard, SimulationGuard
from synapseclr.hooks.saving import OneWriter, OutputCare, PipelineClock
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
