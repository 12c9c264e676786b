"""One training step of the demo's network under options that make it faster: ``python benchmarks/training_step.py``.

Channels last against contiguous, and compiled against not, both channels last; views drawn one batch ahead by one
thread against views drawn within the step, augmentation included. Alternates the variants in one run and reports
medians; compiling is not counted. Writes ``benchmarks/results/training_step.json``.
"""

import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from synapseclr.augmentation import AugmentationConfig, Augmenter
from synapseclr.augmentation.threads import draw_ahead
from synapseclr.errors import ConfigurationError
from synapseclr.models import ModelConfig
from synapseclr.objectives import nt_xent
from synapseclr.training import PretrainingConfig
from synapseclr.training.engine import check_hardware

RESULT = Path(__file__).parent / "results/training_step.json"
SYNAPSES, REPEATS, WARM_UP = 32, 15, 3
VIEWS: dict[str, Any] = {  # of conf/base
    "batch_mode": "decoupled",
    "axial_to_sagittal_spacing": 2.5,
    "final_crop_size": 44,
    "final_img_size": 24,
    "cutout_size_min": 3,
    "cutout_size_max": 8,
    "active_zone_inflation_radii": (1, 2, 3),
}
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


def measure_views_ahead() -> dict[str, float]:
    """Seconds of a whole step with the demo's network and augmentation, and the share that waits for views.

    Returns:
        ``within``, ``ahead``: median seconds of a step. ``within share``, ``ahead share``: of it, drawing or waiting.
    """
    augmenter = Augmenter(AugmentationConfig(channel_organization="separate", **VIEWS))
    config = ModelConfig(encoder="region_resnet", width_factor=0.25, in_channels=2, projection_dims=(128, 64))
    model = config.build(0).to(memory_format=torch.channels_last_3d)
    optimiser = torch.optim.Adam(model.parameters())
    generator = torch.Generator().manual_seed(0)
    codes = torch.zeros(SYNAPSES, 56, 56, 22, dtype=torch.uint8)
    codes[:, 8:48, 12:27], codes[:, 16:40, 27:29, 6:16], codes[:, 8:48, 29:44] = 1, 2, 3
    intensity = torch.randint(60, 200, codes.shape, generator=generator, dtype=torch.uint8)
    prepared = augmenter.prepare(torch.stack([intensity, codes], dim=1))

    def draw(_batch: int, _index: int) -> tuple[torch.Tensor, torch.Tensor]:
        views = augmenter.views(prepared, 2, generator)
        intensity_bcxyz = torch.cat([view.intensity_bcxyz for view in views])
        return intensity_bcxyz.contiguous(memory_format=torch.channels_last_3d), torch.cat(
            [v.mask_bcxyz for v in views]
        )

    seconds: dict[str, list[float]] = {name: [] for name in ("within", "ahead", "within wait", "ahead wait")}
    for _ in range(REPEATS):
        for name in ("within", "ahead"):
            steps = range(WARM_UP + REPEATS)
            views = draw_ahead(steps, draw, 0, 1) if name == "ahead" else (draw(step, step) for step in steps)
            for step in steps:
                start = time.perf_counter()
                intensity_bcxyz, mask_bcxyz = next(views)
                drawn = time.perf_counter()
                z_i, z_j = model(intensity_bcxyz, mask_bcxyz)["projector.mlp.3"].chunk(2)
                optimiser.zero_grad()
                nt_xent(z_i, z_j, 0.1).backward()
                optimiser.step()
                if step >= WARM_UP:
                    seconds[name].append(time.perf_counter() - start)
                    seconds[f"{name} wait"].append(drawn - start)
    medians = {name: statistics.median(measured) for name, measured in seconds.items()}
    return {
        **{name: medians[name] for name in ("within", "ahead")},
        **{f"{name} share": medians[f"{name} wait"] / medians[name] for name in ("within", "ahead")},
    }


if __name__ == "__main__":
    rows = []
    if torch.get_num_threads() > 1:
        step = measure_views_ahead()
        for case, unit in (("", "s"), (" share", "of the step")):
            ours, baseline = step[f"ahead{case}"], step[f"within{case}"]
            label = "region_resnet, views drawn ahead by one thread" + (", augmentation waited for" if case else "")
            rows.append({"case": label, "ours": ours, "baseline": baseline, "unit": unit, "ratio": baseline / ours})
            print(f"{label}: {ours:.3f} {unit}, within the step {baseline:.3f}, ratio {baseline / ours:.2f}")
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
