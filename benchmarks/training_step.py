"""One training step of the demo's network under options that make it faster: ``python benchmarks/training_step.py``.

Channels last against contiguous, and compiled against not, both channels last. Alternates the variants in one run and
reports medians; compiling is not counted. Writes ``benchmarks/results/training_step.json``.
"""

import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch

from synapseclr.errors import ConfigurationError
from synapseclr.models import ModelConfig
from synapseclr.objectives import nt_xent
from synapseclr.training import PretrainingConfig
from synapseclr.training.hardware import check_hardware

RESULT = Path(__file__).parent / "results/training_step.json"
SYNAPSES, REPEATS, WARM_UP = 32, 15, 3
CASES = {"resnet18, width 0.25, 2 x 24^3": (0.25, 2, 24), "resnet18, width 0.25, 1 x 32^3": (0.25, 1, 32)}


def step_seconds(embed: Callable[[torch.Tensor], dict[str, torch.Tensor]], views: torch.Tensor) -> float:
    """Seconds of forward, loss and backward for two views of a batch."""
    start = time.perf_counter()
    z_i, z_j = embed(views)["projector.mlp.3"].chunk(2)
    nt_xent(z_i, z_j, 0.1).backward()
    return time.perf_counter() - start


def measure(width: float, channels: int, size: int) -> dict[str, float]:
    """Median seconds of a step by variant; without ``compiled`` where nothing can be compiled."""
    config = ModelConfig(encoder="resnet18", width_factor=width, in_channels=channels, projection_dims=(128, 64))
    forms = {"contiguous": torch.contiguous_format, "channels last": torch.channels_last_3d}
    variants = {name: (config.build(0).to(memory_format=form), form) for name, form in forms.items()}
    try:
        check_hardware(PretrainingConfig(compile=True, accelerator="cpu"))
        model = config.build(0).to(memory_format=torch.channels_last_3d)
        variants["compiled"] = (torch.compile(model.forward, dynamic=False), torch.channels_last_3d)
    except ConfigurationError as error:
        print(error)
    seconds: dict[str, list[float]] = {name: [] for name in variants}
    views = torch.randn(2 * SYNAPSES, channels, size, size, size)
    for repeat in range(WARM_UP + REPEATS):
        for name, (embed, form) in variants.items():
            taken = step_seconds(embed, views.contiguous(memory_format=form))
            if repeat >= WARM_UP:
                seconds[name].append(taken)
    return {name: statistics.median(measured) for name, measured in seconds.items()}


if __name__ == "__main__":
    rows = []
    for case, shape in CASES.items():
        seconds = measure(*shape)
        for name, other in (("channels last", "contiguous"), ("compiled", "channels last")):
            if name not in seconds:
                continue
            ours, baseline = seconds[name], seconds[other]
            label = case if name == "channels last" else f"{case}, {name}"
            rows.append({"case": label, "ours": ours, "baseline": baseline, "unit": "s", "ratio": baseline / ours})
            print(f"{case}: {name} {ours:.3f} s, {other} {baseline:.3f} s, ratio {baseline / ours:.2f}")
    machine = {
        "processor": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "torch": torch.__version__,
        "load_average": os.getloadavg()[0],
    }
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps({"machine": machine, "rows": rows}, indent=2) + "\n")
