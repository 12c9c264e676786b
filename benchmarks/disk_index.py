"""Search in features that stay in their files: ``python benchmarks/disk_index.py``.

Simulated features of 512 dimensions (200 clusters on a curved surface of 24 dimensions, and noise) are written as Zarr
shards, block by block, into a temporary folder. For each number of synapses: time and memory of building the IVF-PQ
index in files, its size, recall of the ten nearest neighbours of 200 synapses against an exact pass over all features,
and the time of a query alone and in a batch. Each step is a process of its own, whose memory is its peak of resident
pages, mapped files included. CPU seconds are kept beside those of the clock, since they depend less on what else runs.
Writes ``benchmarks/results/disk_index.json`` after each number. A million needs 2.2 GB of disk.
"""

import argparse
import json
import multiprocessing
import os
import platform
import resource
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import faiss
import numpy as np
from similarity import N_FEATURES, simulated_features

from synapseclr.analysis.disk_index import DiskIndex, build_disk_index

RESULT = Path(__file__).parent / "results/disk_index.json"
SHARD_ROWS = 102_400
K = 10


def write_features(folder: Path, n_synapses: int, chunk_rows: int) -> dict[str, Any]:
    """Write simulated features as a sharded Zarr array; each block has clusters and noise of its own seed."""
    import zarr
    from zarr.codecs import ZstdCodec

    array = zarr.create_array(
        folder / "features.zarr",
        shape=(n_synapses, N_FEATURES),
        chunks=(chunk_rows, N_FEATURES),
        shards=(SHARD_ROWS, N_FEATURES),
        dtype="f4",
        compressors=[ZstdCodec()],
    )
    for start in range(0, n_synapses, SHARD_ROWS):
        stop = min(start + SHARD_ROWS, n_synapses)
        array[start:stop] = simulated_features(stop - start, seed=start // SHARD_ROWS)
    return {}


def opened(folder: Path) -> Any:
    """The features as a lazy array of dask."""
    import dask.array as da
    import zarr

    array = zarr.open_array(folder / "features.zarr", mode="r")
    return da.from_array(array, chunks=(20_480, N_FEATURES), inline_array=True)


def build(folder: Path) -> dict[str, Any]:
    """Build the index."""
    features = opened(folder)
    build_disk_index(features, folder / "feature_index")
    size = sum(path.stat().st_size for path in (folder / "feature_index").iterdir())
    return {"index_bytes_per_synapse": size / len(features)}


def search_exactly(folder: Path, n_queries: int) -> dict[str, Any]:
    """Find the true neighbours by a pass over all features."""
    index = DiskIndex(opened(folder), None)
    rows_q = query_rows(len(index), n_queries)
    found = index.neighbours_of_rows(rows_q, K)
    np.save(folder / "true_distances.npy", found.distances_qk)
    return {}


def search(folder: Path, n_queries: int, n_batch: int, n_single: int) -> dict[str, Any]:
    """Search by the index: recall, a batch, single queries."""
    index = DiskIndex(opened(folder), folder / "feature_index")
    rows_q = query_rows(len(index), n_queries)
    found = index.neighbours_of_rows(rows_q, K)
    farthest_q = np.load(folder / "true_distances.npy")[:, -1:]
    query_qf = index.vectors(query_rows(len(index), n_batch))
    timed: dict[str, Any] = {"recall_at_10": float((found.distances_qk <= farthest_q * (1 + 1e-6)).mean())}
    start, start_cpu = time.perf_counter(), time.process_time()
    index.search(query_qf, K)
    timed |= {
        "batch": n_batch,
        "batch_ms_per_query": 1e3 * (time.perf_counter() - start) / n_batch,
        "batch_cpu_ms_per_query": 1e3 * (time.process_time() - start_cpu) / n_batch,
    }
    single_qf = query_qf[:: n_batch // n_single][:n_single]
    timed |= {f"single_{name}": value for name, value in milliseconds(lambda q: index.search(q, K), single_qf).items()}
    shortlist = index._index.search
    timed |= {f"shortlist_{name}": value for name, value in milliseconds(lambda q: shortlist(q, 32), single_qf).items()}
    return timed


def query_rows(n_synapses: int, n_queries: int) -> np.ndarray:
    """Rows of the synapses that are searched for, spread evenly."""
    return np.arange(n_queries) * (n_synapses // n_queries)


def milliseconds(one: Callable[[np.ndarray], Any], query_qf: np.ndarray) -> dict[str, float]:
    """Medians of a query alone, on the clock and of the processors, after a warm-up."""
    one(query_qf[:1])
    clock, processors = [], []
    for query in range(1, len(query_qf)):
        start, start_cpu = time.perf_counter(), time.process_time()
        one(query_qf[query : query + 1])
        clock.append(1e3 * (time.perf_counter() - start))
        processors.append(1e3 * (time.process_time() - start_cpu))
    return {"ms": statistics.median(clock), "cpu_ms": statistics.median(processors)}


def measured(step: Callable[..., dict[str, Any]], *arguments: Any) -> dict[str, Any]:
    """Run a step in a process of its own: what it returns, its seconds and its peak of memory."""
    context = multiprocessing.get_context("spawn")
    with context.Pool(1) as pool:
        return pool.apply(_measure, (step, *arguments))


def _measure(step: Callable[..., dict[str, Any]], *arguments: Any) -> dict[str, Any]:
    start, start_cpu = time.perf_counter(), time.process_time()
    found = step(*arguments)
    return found | {
        "seconds": time.perf_counter() - start,
        "cpu_seconds": time.process_time() - start_cpu,
        "peak_memory_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6,
    }


def measure(n_synapses: int, arguments: argparse.Namespace) -> dict[str, Any]:
    """All steps for a number of synapses."""
    with tempfile.TemporaryDirectory(dir=arguments.scratch) as temporary:
        folder = Path(temporary)
        measured(write_features, folder, n_synapses, arguments.chunk_rows)
        built = measured(build, folder)
        exact = measured(search_exactly, folder, arguments.queries)
        found = measured(search, folder, arguments.queries, arguments.batch, arguments.single)
    return {
        "n_synapses": n_synapses,
        "n_features": N_FEATURES,
        "chunk_rows": arguments.chunk_rows,
        "build": built | {"cpu_us_per_synapse": 1e6 * built["cpu_seconds"] / n_synapses},
        "exact": exact | {"ms_per_query": 1e3 * exact["seconds"] / arguments.queries},
        "search": found,
        "load_average": os.getloadavg()[0],
    }


def main() -> None:
    """Run the benchmark and write its result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=[100_000, 1_000_000])
    parser.add_argument("--queries", type=int, default=200)
    parser.add_argument("--batch", type=int, default=1000)
    parser.add_argument("--single", type=int, default=50)
    parser.add_argument("--chunk-rows", type=int, default=256, help="rows of a stored chunk")
    parser.add_argument("--scratch", type=Path, default=None, help="folder for the features while they are measured")
    parser.add_argument("--result", type=Path, default=RESULT)
    arguments = parser.parse_args()
    rows = []
    for n_synapses in arguments.sizes:
        rows.append(measure(n_synapses, arguments))
        print(json.dumps(rows[-1], indent=2), flush=True)
        machine = {
            "processor": platform.processor() or platform.machine(),
            "cores": os.cpu_count(),
            "threads": faiss.omp_get_max_threads(),
            "faiss": faiss.__version__,
        }
        arguments.result.write_text(json.dumps({"machine": machine, "rows": rows}, indent=2) + "\n")


if __name__ == "__main__":
    main()
