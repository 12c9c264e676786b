"""Throughput of training: ``python benchmarks/throughput.py [--device cpu|cuda] [--quick]``.

On the CPU, the demo's configuration: ``fit`` with its trainer, loader, augmentation and callbacks against a plain loop
with the same model, augmentation, loss and optimiser, in fp32, all chunks in memory and no workers. An epoch of the one
follows an epoch of the other in one process; medians. The ratio is ours over the loop's, and 1 is all one can reach.

On CUDA, the published configuration (``conf/microns``: batch 48, 96^3, two views, resnet18_no_max_pool) on full-size
chunks that worker processes read from disk, in several precisions, channels last, and compiled: synapses/s against
fp32; TFLOP/s against the ceiling, a large bf16 matrix product measured here; and the parts of a step, whose ratio is
their share. The first epoch warms up and is left out.

Writes ``benchmarks/results/throughput.json``, and ``throughput_cuda.json`` for CUDA.
"""

import argparse
import json
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from chunk_reading import synthetic_batches
from kedro.config import OmegaConfigLoader

from synapseclr.augmentation import Augmenter
from synapseclr.settings import CONFIG_LOADER_ARGS
from synapseclr.training import PretrainingConfig, fit
from synapseclr.training.throughput import SHARES
from synapseclr.volumes import ChunkStore, ChunkStream, write_chunk_store

PROJECT = Path(__file__).parents[1]
RESULTS = PROJECT / "benchmarks/results"
VARIANTS: dict[str, dict[str, Any]] = {
    "fp32 (convolutions in TF32, torch's default)": {},
    "bf16": {"precision": "bf16-mixed"},
    "bf16, channels last": {"precision": "bf16-mixed", "channels_last": True},
    "bf16, compiled": {"precision": "bf16-mixed", "compile": True},
    "bf16, channels last, compiled": {"precision": "bf16-mixed", "channels_last": True, "compile": True},
}
Row = dict[str, Any]


@dataclass(frozen=True)
class RepeatedStore(ChunkStore):
    """A store that seems to hold its chunks ``times`` over, so that a small file makes a long epoch."""

    times: int = 1

    def __getstate__(self) -> dict[str, Any]:
        """What a worker process needs to open the store again."""
        return {**super().__getstate__(), "times": self.times}

    def __len__(self) -> int:
        """Chunks, repetitions included."""
        return super().__len__() * self.times

    def read(self, indices: Any) -> np.ndarray:
        """Read the chunks at these positions, modulo those that are stored."""
        return ChunkStore(self.url).read(np.asarray(indices) % (len(self) // self.times))


def configuration(environment: str, **changes: Any) -> PretrainingConfig:
    """The pretraining parameters of an environment of the project, for a run that measures and nothing else."""
    loader = OmegaConfigLoader(str(PROJECT / "conf"), env=environment, runtime_params={}, **CONFIG_LOADER_ARGS)
    parameters = loader["parameters"]["pretraining"]
    nothing_else = {"validation_fraction": 0.0, "resume": False}
    return PretrainingConfig.model_validate({**parameters, **nothing_else, **changes})


def make_store(folder: str, n: int, size_vx: tuple[int, int, int], spacing: float, times: int = 1) -> RepeatedStore:
    """Synthetic chunks on disk."""
    stream = ChunkStream(synthetic_batches(n, size_vx, 16), size_vx, (8.0, 8.0, 8.0 * spacing), 16)
    write_chunk_store(stream, f"{folder}/chunks.zarr")
    return RepeatedStore(f"{folder}/chunks.zarr", times=times)


def plain_epochs(chunk_ncxyz: torch.Tensor, config: PretrainingConfig) -> Iterator[float]:
    """Synapses per second of each epoch of a loop as one would write it."""
    generator = torch.Generator().manual_seed(config.seed)
    memory_format = torch.channels_last_3d if config.channels_last else torch.contiguous_format
    model = config.model.build(config.seed).to(memory_format=memory_format)
    augmenter, objective = Augmenter(config.augmentation), config.objective.build()
    optimiser = torch.optim.Adam(model.parameters(), lr=config.optimiser.learning_rate)
    n = len(chunk_ncxyz) // config.batch_size * config.batch_size
    while True:
        start = time.perf_counter()
        for batch in torch.randperm(len(chunk_ncxyz), generator=generator)[:n].split(config.batch_size):
            views = augmenter.views(chunk_ncxyz[batch], 2, generator)
            intensity_bcxyz = torch.cat([view.intensity_bcxyz for view in views])
            layers = model(intensity_bcxyz.contiguous(memory_format=memory_format))
            loss = objective(*layers["projector.mlp.3"].chunk(2))
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        yield n / (time.perf_counter() - start)


def run_engine(store: ChunkStore, config: PretrainingConfig, after_epoch: Callable[[], None]) -> list[dict[str, float]]:
    """Train, and return the rows of all epochs but the first, with ``rate``: synapses per second of the whole epoch."""
    rows: list[dict[str, float]] = []

    def report(epoch: int, row: dict[str, float]) -> None:
        per_epoch = len(store) // config.batch_size * config.batch_size
        rows.append({**row, "rate": per_epoch / row["seconds"]})
        after_epoch()

    with tempfile.TemporaryDirectory() as checkpoints:
        fit(store, config, checkpoints, report=report)
    return rows[1:]


def median(rows: list[dict[str, float]], name: str) -> float:
    """Median of a metric over epochs."""
    return statistics.median(row[name] for row in rows)


def measure_cpu(quick: bool) -> list[Row]:
    """Our engine against a plain loop, at the demo's size."""
    config = configuration("base", epochs=2 if quick else 8, accelerator="cpu", batch_size=8 if quick else 32)
    spacing = config.augmentation.axial_to_sagittal_spacing
    with tempfile.TemporaryDirectory() as folder:
        store = make_store(folder, (2 if quick else 6) * config.batch_size, (80, 80, 32), spacing)
        loop = plain_epochs(torch.from_numpy(store.read(range(len(store)))), config)
        plain: list[float] = []
        rows = run_engine(store, config, lambda: plain.append(next(loop)))
    ours, baseline = median(rows, "rate"), statistics.median(plain[1:])
    case = f"CPU, the demo's model, batch {config.batch_size}, fp32"
    result = [{"case": f"{case}: training", "ours": ours, "baseline": baseline, "unit": "synapses/s"}]
    result[0]["ratio"] = ours / baseline
    return result + breakdown(case, rows)


def breakdown(case: str, rows: list[dict[str, float]]) -> list[Row]:
    """Seconds of a step by what they are spent on; the ratio is the share of the step."""
    batch_seconds = 1 / median(rows, "synapses_per_second")
    return [
        {
            "case": f"{case}: {name.removesuffix('_share').replace('data_wait', 'wait')}, of the time a synapse takes",
            "ours": 1000 * median(rows, name) * batch_seconds,
            "baseline": 1000 * batch_seconds,
            "unit": "ms",
            "ratio": median(rows, name),
        }
        for name in SHARES
    ]


def matmul_ceiling_tflops(size: int = 8192, repeats: int = 20) -> float:
    """The most that a bf16 matrix product of this size reaches, in TFLOP/s: the best of some repeats."""
    a, b = (torch.randn(size, size, device="cuda", dtype=torch.bfloat16) for _ in range(2))
    best = 0.0
    for _ in range(repeats):
        start, stop = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        for _ in range(5):
            a @ b
        stop.record()
        torch.cuda.synchronize()
        best = max(best, 5 * 2 * size**3 / (start.elapsed_time(stop) / 1000) / 1e12)
    return best


def measure_cuda(quick: bool, workers: int) -> list[Row]:
    """The published configuration, in all variants."""
    ceiling = matmul_ceiling_tflops()
    print(f"bf16 matrix product: {ceiling:.0f} TFLOP/s", flush=True)
    n_chunks, steps = (48, 4) if quick else (96, 40)
    changes = {"epochs": 2 if quick else 3, "accelerator": "gpu", "num_workers": workers, "chunk_cache_mb": 0}
    config = configuration("microns", **changes)
    result: list[Row] = []
    fp32 = 0.0
    with tempfile.TemporaryDirectory() as folder:
        times = max(1, steps * config.batch_size // n_chunks)
        store = make_store(folder, n_chunks, (256, 256, 52), config.augmentation.axial_to_sagittal_spacing, times)
        for name, variant in VARIANTS.items():
            config = configuration("microns", **changes, **variant)
            rows = run_engine(store, config, lambda: None)
            rate, tflops = median(rows, "synapses_per_second"), median(rows, "tflops_per_second")
            fp32 = fp32 or rate
            case = f"CUDA, published model, batch {config.batch_size}, {name}"
            found = [
                {"case": f"{case}: training", "ours": rate, "baseline": fp32, "unit": "synapses/s"},
                {
                    "case": f"{case}: share of the matrix ceiling",
                    "ours": tflops,
                    "baseline": ceiling,
                    "unit": "TFLOP/s",
                },
            ]
            found = [{**row, "ratio": row["ours"] / row["baseline"]} for row in found] + breakdown(case, rows)
            memory = median(rows, "gpu_memory_gb")
            total = torch.cuda.get_device_properties(0).total_memory / 1e9
            found.append(
                {"case": f"{case}: memory", "ours": memory, "baseline": total, "unit": "GB", "ratio": memory / total}
            )
            show(found)
            result += found
    return result


def show(rows: list[Row]) -> None:
    """Print rows."""
    for row in rows:
        print(
            f"{row['case']}: {row['ours']:.3g} of {row['baseline']:.3g} {row['unit']}, {row['ratio']:.3f}", flush=True
        )


def main() -> None:
    """Run the benchmark and write its result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--quick", action="store_true", help="few small epochs: shows that it runs, measures nothing")
    parser.add_argument(
        "--workers", type=int, default=max(1, (os.cpu_count() or 2) - 2), help="on CUDA: processes that read"
    )
    parser.add_argument("--result", type=Path)
    arguments = parser.parse_args()
    if arguments.device == "cuda":
        rows = measure_cuda(arguments.quick, arguments.workers)
    else:
        rows = measure_cpu(arguments.quick)
        show(rows)
    machine = {
        "processor": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "load_average": os.getloadavg()[0],
    }
    if arguments.device == "cuda":
        machine |= {
            "gpu": torch.cuda.get_device_name(),
            "cudnn": torch.backends.cudnn.version(),
            "workers": arguments.workers,
        }
    result = arguments.result or RESULTS / ("throughput_cuda.json" if arguments.device == "cuda" else "throughput.json")
    result.parent.mkdir(exist_ok=True)
    result.write_text(json.dumps({"machine": machine, "rows": rows}, indent=2) + "\n")


if __name__ == "__main__":
    main()
