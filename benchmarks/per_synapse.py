"""CPU a synapse of the steps that read chunks, for docs/scale.md: ``python benchmarks/per_synapse.py``.

Embedding with the demo's settings and as published, and the statistics of image and masks, on chunks of smooth noise
with three slabs of mask codes, at the sizes of the demo and of the paper. Times are of all threads of the process
(``time.process_time``), the least of some repeats, the first of which compiles. Operations of a view are
counted, not measured. Writes ``benchmarks/results/per_synapse.json``.
"""

import argparse
import json
import os
import platform
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from chunk_reading import compression, synthetic_batches
from throughput import PROJECT, configuration

from synapseclr.analysis.handcrafted import store_mask_statistics, store_statistics
from synapseclr.training import EmbeddingConfig, embed_store
from synapseclr.training.throughput import training_flops_per_synapse
from synapseclr.volumes import ChunkStore, ChunkStream, write_chunk_store

RESULT = Path(__file__).parent / "results/per_synapse.json"
SIZES = {  # environment, voxels of a chunk, of a voxel in nm, chunks
    "the demo's chunks and encoder": ("base", (80, 80, 32), (16.0, 16.0, 40.0), 128),
    "published chunks and encoder": ("microns", (256, 256, 52), (8.0, 8.0, 40.0), 4),
}
PARTS_OF_A_STEP = 6  # two views, each with a forward pass and a backward pass that counts as two


def cpu_ms(call: Callable[[], object], n: int, repeats: int) -> float:
    """The least processor time that a call took for one of n synapses."""
    least = float("inf")
    for _ in range(repeats):
        start = time.process_time()
        call()
        least = min(least, time.process_time() - start)
    return 1000 * least / n


def measure(case: str, environment: str, store: ChunkStore, repeats: int) -> dict[str, Any]:
    """One row: a store, and what the steps take of it."""
    from kedro.config import OmegaConfigLoader

    from synapseclr.settings import CONFIG_LOADER_ARGS

    loader = OmegaConfigLoader(str(PROJECT / "conf"), env=environment, runtime_params={}, **CONFIG_LOADER_ARGS)
    embedding = EmbeddingConfig.model_validate(loader["parameters"]["embedding"] | {"device": "cpu"})
    pretraining = configuration(environment)
    model, n = pretraining.model.build(pretraining.seed), len(store)
    steps = {
        "embedding": lambda: embed_store(model, store, pretraining.augmentation, embedding),
        "image_statistics": lambda: store_statistics(store),
        "mask_statistics": lambda: store_mask_statistics(store, store.voxel_size_nm),
    }
    flops = training_flops_per_synapse(pretraining)
    views = embedding.n_rotations * len(embedding.magnifications)
    return {
        "case": case,
        "n_synapses": n,
        "chunk_bytes": 2 * int(store.chunk_size_vx[0] * store.chunk_size_vx[1] * store.chunk_size_vx[2]),
        "compression": compression(store),
        "views_of_an_embedding": views,
        "gflop_of_a_view": None if flops is None else flops / PARTS_OF_A_STEP / 1e9,
        "cpu_ms": {name: cpu_ms(step, n, repeats) for name, step in steps.items()},
    }


def main() -> None:
    """Run the benchmark and write its result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--result", type=Path, default=RESULT)
    arguments = parser.parse_args()
    rows = []
    for case, (environment, size_vx, voxel_size_nm, n) in SIZES.items():
        with tempfile.TemporaryDirectory() as folder:
            stream = ChunkStream(synthetic_batches(n, size_vx, 16), size_vx, voxel_size_nm, 16)
            write_chunk_store(stream, f"{folder}/chunks.zarr")
            rows.append(measure(case, environment, ChunkStore(f"{folder}/chunks.zarr"), arguments.repeats))
        print(rows[-1])
    machine = {
        "processor": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "load_average": os.getloadavg()[0],
    }
    arguments.result.write_text(json.dumps({"machine": machine, "rows": rows}, indent=2) + "\n")


if __name__ == "__main__":
    main()
