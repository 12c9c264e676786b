"""Times the augmentation against a straightforward dense implementation; writes benchmarks/results/augmentation.json.

    python benchmarks/augmentation.py [--quick] [--threads 2] [--device cpu]

The baseline is benchmarks/baselines/dense_augmentation.py. It is what the published code does: it draws one radius a
batch and dilates with that radius' kernel; the largest one is timed. Ours prepares a synapse once and then makes views
of it: a view of prepared synapses and a view with its preparation are rows of their own. Two ways to make a view are
timed in turns, so that a machine that slows down slows both. The baseline's dense convolutions depend on the
processor's instruction set; ATEN_CPU_CAPABILITY=avx2 and ONEDNN_MAX_CPU_ISA=AVX2 hold a newer one back. ``--quick``
uses small chunks and one repeat.
"""

import argparse
import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from baselines.dense_augmentation import dense_view
from baselines.synthetic_chunks import synthetic_chunks

from synapseclr.augmentation import AugmentationConfig, Augmenter
from synapseclr.augmentation.operations.resampling import published_scale, published_theta

RESULT = Path(__file__).parent / "results" / "augmentation.json"


class Timer:
    """Wall-clock times of calls, in milliseconds."""

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def __call__(self, call: Callable[[], object]) -> float:
        """Time one call."""
        self._wait()
        start = time.perf_counter()
        call()
        self._wait()
        return 1000 * (time.perf_counter() - start)

    def _wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize()


def compare(timer: Timer, ours: Callable[[], object], baseline: Callable[[], object], repeats: int) -> dict[str, float]:
    """Medians of both, and the median of the ratios pair by pair; ours is timed five times a pair."""
    ours()
    times, ratios = ([], []), []
    for _ in range(repeats):
        mine = statistics.median(timer(ours) for _ in range(5))
        theirs = timer(baseline)
        times[0].append(mine)
        times[1].append(theirs)
        ratios.append(theirs / mine)
    return {
        "ours": round(statistics.median(times[0]), 2),
        "baseline": round(statistics.median(times[1]), 2),
        "ratio": round(statistics.median(ratios), 2),
    }


def whole_views(chunk: torch.Tensor, config: AugmentationConfig, timer: Timer, repeats: int) -> dict[str, dict]:
    """Whole views of a batch, by both implementations."""
    shape = (int(chunk.shape[2]), int(chunk.shape[3]), int(chunk.shape[4]))
    scale = published_scale(shape, config.final_crop_size, config.axial_to_sagittal_spacing)
    theta, size = published_theta(None, torch.zeros(1, 3), scale).to(chunk.device), config.final_img_size
    largest = max(config.active_zone_inflation_radii)
    generator = torch.Generator().manual_seed(0)
    augmenter, extraction = Augmenter(config), Augmenter(config.for_extraction())
    published = Augmenter(config.replaced(fidelity="published"))
    prepared = augmenter.prepare(chunk)

    def dense(radius: int, is_random: bool) -> Callable[[], object]:
        return lambda: dense_view(chunk, theta, size, radius, is_random)

    return {
        "so3 view of prepared synapses": compare(
            timer, lambda: augmenter(prepared, generator), dense(largest, True), repeats
        ),
        "so3 view and its preparation": compare(
            timer, lambda: augmenter(chunk, generator), dense(largest, True), repeats
        ),
        "extraction view and its preparation": compare(timer, lambda: extraction(chunk), dense(3, False), repeats),
        "so3 view, published": compare(timer, lambda: published(chunk, generator), dense(largest, True), repeats),
    }


def demo_step(timer: Timer, repeats: int) -> dict[str, dict]:
    """Two decoupled views of 32 synapses at the demo's size, against the straightforward implementation of one draw."""
    spacing = 2.5
    config = AugmentationConfig.so3(axial_to_sagittal_spacing=spacing, batch_mode="decoupled").resized(44, 24)
    config = config.replaced(channel_organization="separate")
    chunk = synthetic_chunks(32, (80, 80, 32))
    augmenter, generator = Augmenter(config), torch.Generator().manual_seed(0)
    prepared = augmenter.prepare(chunk)
    theta = published_theta(None, torch.zeros(1, 3), published_scale((80, 80, 32), 44, spacing))

    def dense() -> None:
        for _ in range(2):
            dense_view(chunk, theta, 24, max(config.active_zone_inflation_radii), True)

    return {"demo: 64 decoupled views": compare(timer, lambda: augmenter.views(prepared, 2, generator), dense, repeats)}


def shares(chunk: torch.Tensor, config: AugmentationConfig, timer: Timer, views: int) -> dict[str, float]:
    """Percent of a view's time that each operation takes, over several draws."""
    augmenter, generator = Augmenter(config), torch.Generator().manual_seed(0)
    prepared = augmenter.prepare(chunk)
    totals = dict.fromkeys((operation.name for operation in augmenter.operations), 0.0)
    for _ in range(views):
        draws, view = augmenter.draw(prepared, generator), augmenter.begin(prepared)
        for operation in augmenter.operations:
            drawn = draws.get(operation.name)
            totals[operation.name] += timer(lambda each=operation, drawn=drawn, view=view: each.apply(view, drawn))
    return {name: round(100 * milliseconds / sum(totals.values()), 1) for name, milliseconds in totals.items()}


def main() -> None:
    """Run the benchmark and write its result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small chunks, one repeat")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--output", type=Path, default=RESULT)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    device = torch.device(options.device)
    shape, config = (256, 256, 52), AugmentationConfig.so3()
    if options.quick:
        shape, config = (80, 80, 32), AugmentationConfig.so3(axial_to_sagittal_spacing=2.5).resized(64, 32)
    chunk = synthetic_chunks(options.batch, shape).to(device)
    timer, repeats = Timer(device), 1 if options.quick else 5
    cases = whole_views(chunk, config, timer, repeats) | demo_step(timer, repeats)
    unit = f"ms per batch of {options.batch}"
    rows = [{"case": case, "unit": unit if "demo" not in case else "ms", **times} for case, times in cases.items()]
    machine = {
        "processor": platform.processor() or platform.machine(),
        "instruction_set": torch.backends.cpu.get_cpu_capability(),
        "threads": options.threads,
        "load_average": [round(load, 2) for load in os.getloadavg()],
        "device": torch.cuda.get_device_name() if device.type == "cuda" else "cpu",
        "torch": torch.__version__,
        "chunk": list(shape),
        "image": config.final_img_size,
    }
    share = shares(chunk, config, timer, 2 if options.quick else 6)
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps({"machine": machine, "shares_percent": share, "rows": rows}, indent=2) + "\n")
    print("percent of a view: " + ", ".join(f"{name} {value}" for name, value in share.items()))
    for row in rows:
        print(f"{row['case']:45s} {row['ours']:10.1f} {row['baseline']:10.1f} {row['unit']}  {row['ratio']:7.1f} x")


if __name__ == "__main__":
    main()
