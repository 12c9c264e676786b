"""How fast a training runs, and where the time of a step goes.

:class:`ThroughputMonitor` is imported when it is first asked for, since it needs torch and Lightning.
"""

from typing import Any

from synapseclr.training.throughput.metrics import WALL_CLOCK_METRICS

__all__ = ["WALL_CLOCK_METRICS", "StepProfiler", "ThroughputMonitor", "profiled", "training_flops_per_synapse"]

_LAZY = {
    "StepProfiler": "profiler",
    "ThroughputMonitor": "monitor",
    "profiled": "profiler",
    "training_flops_per_synapse": "flops",
}


def __getattr__(name: str) -> Any:
    from importlib import import_module

    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_LAZY[name]}"), name)
