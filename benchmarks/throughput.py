"""Throughput of training on the CPU: ``python benchmarks/throughput.py [--quick]``; on a GPU: ``benchmarks/gpu.py``.

The demo's configuration: ``fit`` with its trainer, loader, augmentation and callbacks against a plain loop with the
same model, augmentation, loss and optimiser, in fp32, all chunks in memory and no workers. An epoch of the one follows
an epoch of the other in one process; medians. The ratio is ours over the loop's, and 1 is all one can reach.

Writes ``benchmarks/results/throughput.json``.
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

from synapseclr.augmentation import Augmenter
from synapseclr.training import PretrainingConfig, fit
from synapseclr.training.throughput import SHARES
from synapseclr.volumes import ChunkStore, ChunkStream, write_chunk_store

PROJECT = Path(__file__).parents[1]
RESULTS = PROJECT / "benchmarks/results"
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


def parameters_of(environment: str) -> dict[str, Any]:
    """The section ``pretraining`` of an environment's parameters, as Kedro resolves it."""
    from kedro.config import OmegaConfigLoader

    from synapseclr.settings import CONFIG_LOADER_ARGS

    loader = OmegaConfigLoader(str(PROJECT / "conf"), env=environment, runtime_params={}, **CONFIG_LOADER_ARGS)
    return dict(loader["parameters"]["pretraining"])


def configuration(environment: str, **changes: Any) -> PretrainingConfig:
    """The pretraining parameters of an environment of the project, for a run that measures and nothing else.

    A bundle for a machine without Kedro has them resolved in ``parameters_<environment>.json`` beside this file.
    """
    resolved = Path(__file__).parent / f"parameters_{environment}.json"
    parameters = json.loads(resolved.read_text()) if resolved.exists() else parameters_of(environment)
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


def show(rows: list[Row]) -> None:
    """Print rows."""
    for row in rows:
        print(
            f"{row['case']}: {row['ours']:.3g} of {row['baseline']:.3g} {row['unit']}, {row['ratio']:.3f}", flush=True
        )


def main() -> None:
    """Run the benchmark and write its result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="few small epochs: shows that it runs, measures nothing")
    parser.add_argument("--result", type=Path, default=RESULTS / "throughput.json")
    arguments = parser.parse_args()
    rows = measure_cpu(arguments.quick)
    show(rows)
    machine = {
        "processor": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "load_average": os.getloadavg()[0],
    }
    arguments.result.parent.mkdir(exist_ok=True)
    arguments.result.write_text(json.dumps({"machine": machine, "rows": rows}, indent=2) + "\n")


if __name__ == "__main__":
    main()
