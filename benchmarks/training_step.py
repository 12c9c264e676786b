"""One training step of the demo's network, channels last against contiguous: ``python benchmarks/training_step.py``.

Alternates the two in one run and reports medians; writes ``benchmarks/results/training_step.json``.
"""

import json
import os
import platform
import statistics
import time
from pathlib import Path

import torch

from synapseclr.models import ModelConfig
from synapseclr.objectives import nt_xent

RESULT = Path(__file__).parent / "results/training_step.json"
SYNAPSES, REPEATS, WARM_UP = 32, 15, 3
CASES = {"resnet18, width 0.25, 2 x 24^3": (0.25, 2, 24), "resnet18, width 0.25, 1 x 32^3": (0.25, 1, 32)}


def step_seconds(model: torch.nn.Module, views: torch.Tensor) -> float:
    """Seconds of forward, loss and backward for two views of a batch."""
    start = time.perf_counter()
    z_i, z_j = model(views)["projector.mlp.3"].chunk(2)
    nt_xent(z_i, z_j, 0.1).backward()
    return time.perf_counter() - start


def compare(width: float, channels: int, size: int) -> tuple[float, float]:
    """Median seconds of a step, channels last and contiguous."""
    config = ModelConfig(encoder="resnet18", width_factor=width, in_channels=channels, projection_dims=(128, 64))
    seconds: dict[torch.memory_format, list[float]] = {torch.channels_last_3d: [], torch.contiguous_format: []}
    models = {form: config.build(0).to(memory_format=form) for form in seconds}
    views = torch.randn(2 * SYNAPSES, channels, size, size, size)
    for repeat in range(WARM_UP + REPEATS):
        for form, measured in seconds.items():
            taken = step_seconds(models[form], views.contiguous(memory_format=form))
            if repeat >= WARM_UP:
                measured.append(taken)
    ours, baseline = (statistics.median(measured) for measured in seconds.values())
    return ours, baseline


if __name__ == "__main__":
    rows = []
    for case, shape in CASES.items():
        ours, baseline = compare(*shape)
        rows.append({"case": case, "ours": ours, "baseline": baseline, "unit": "s", "ratio": baseline / ours})
        print(f"{case}: channels last {ours:.3f} s, contiguous {baseline:.3f} s, ratio {baseline / ours:.2f}")
    machine = {
        "processor": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "torch": torch.__version__,
        "load_average": os.getloadavg()[0],
    }
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps({"machine": machine, "rows": rows}, indent=2) + "\n")
