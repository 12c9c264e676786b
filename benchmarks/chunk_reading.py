"""Reading chunks by their place in a shard against zarr-python and tensorstore: ``python benchmarks/chunk_reading.py``.

All read the same sharded stores: the demo's, where there is one, and one of full-size chunks, made in a temporary
folder; batches of random synapses as training reads them, and batches in store order as embedding does. They alternate
batch by batch, and every batch is read by each, so files are cached by the system for all alike. What counts is the
processor time of all threads, which other programs on the machine disturb least: the smallest of REPEATS. Rows with the
unit MB/s are of the elapsed time, for uncompressed chunks, and there the ratio is ours over the baseline. Writes
``benchmarks/results/chunk_reading.json``.
"""

import argparse
import json
import os
import platform
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

import numpy as np
import zarr
from scipy.ndimage import uniform_filter

from synapseclr.errors import VolumeError
from synapseclr.storage.object_folder import ObjectFolder
from synapseclr.volumes import ChunkBatch, ChunkStore, ChunkStream, write_chunk_store
from synapseclr.volumes.store.shard_reading import ChunkReader, open_shards, shard_reader, zarr_reader

RESULT = Path(__file__).parent / "results/chunk_reading.json"
DEMO = Path(__file__).parents[1] / "data/02_intermediate/synapse_chunks.zarr"
FULL_SIZE_VX, VOXEL_SIZE_NM = (256, 256, 52), (8.0, 8.0, 40.0)
MB = 1e6


def synthetic_batches(n: int, size_vx: tuple[int, int, int], shard: int) -> list[ChunkBatch]:
    """Noise that is smooth over a few voxels, which compresses about as EM does, and three slabs of mask codes."""
    rng = np.random.default_rng(0)
    codes = np.zeros(size_vx, np.uint8)
    codes[:, : size_vx[1] // 2] = 1
    codes[:, size_vx[1] // 2 :] = 3
    codes[:, size_vx[1] // 2 - 4 : size_vx[1] // 2 + 4] = 2
    batches = []
    for start in range(0, n, shard):
        ids = np.arange(start, min(start + shard, n))
        noise = rng.normal(size=(len(ids), *size_vx)).astype(np.float32)
        intensity = np.clip(128 + 120 * uniform_filter(noise, (0, 3, 3, 1)), 0, 255).astype(np.uint8)
        zeros = np.zeros(len(ids))
        records = {"synapse_id": ids, "cleft_id": zeros, "n_cutout_sections": zeros, "n_padded_voxels": zeros}
        batches.append(ChunkBatch(np.stack([intensity, np.broadcast_to(codes, intensity.shape)], axis=1), records))
    return batches


def our_reader(folder: str) -> ChunkReader:
    """What a chunk store in this folder reads with."""
    return shard_reader(zarr.open_array(f"{folder}/chunks", mode="r"), open_shards(ObjectFolder(folder), ""))


def tensorstore_reader(path: str) -> ChunkReader:
    """Read a Zarr array by tensorstore, one chunk after the other, which is faster than all at once."""
    import tensorstore

    spec = {"driver": "zarr3", "kvstore": {"driver": "file", "path": f"{Path(path).resolve()}/"}}
    array = tensorstore.open(spec, open=True, read=True).result()

    def read(positions: np.ndarray) -> np.ndarray:
        chunk_ncxyz = np.empty((len(positions), *array.shape[1:]), np.uint8)
        target = tensorstore.array(chunk_ncxyz)
        for place, position in enumerate(positions):
            target[place].write(array[int(position)]).result()
        return chunk_ncxyz

    return read


def compression(store: ChunkStore) -> float:
    """Uncompressed over stored bytes."""
    stored = sum(path.stat().st_size for path in Path(store.url, "chunks").rglob("*") if path.is_file())
    return len(store) * 2 * float(np.prod(store.chunk_size_vx)) / stored


def measure(readers: dict[str, ChunkReader], batches: list[np.ndarray], repeats: int) -> dict[str, tuple[float, float]]:
    """Smallest processor and elapsed seconds a chunk of each reader; raises ValueError if they read different bits."""
    best = dict.fromkeys(readers, (np.inf, np.inf))
    for repeat in range(repeats + 1):
        taken = {name: np.zeros(2) for name in readers}
        for index, batch in enumerate(batches):
            names = list(readers) if (index + repeat) % 2 else list(readers)[::-1]
            chunks = {}
            for name in names:
                start = np.array([time.process_time(), time.perf_counter()])
                chunks[name] = readers[name](batch)
                taken[name] += np.array([time.process_time(), time.perf_counter()]) - start
            if any(not np.array_equal(chunks[names[0]], chunks[name]) for name in names[1:]):
                raise ValueError(f"the readers disagree on the chunks {batch.tolist()}")
        if repeat:  # the first one warms up
            n = sum(len(batch) for batch in batches)
            best = {name: tuple(np.minimum(best[name], taken[name] / n)) for name in readers}
    return best


def compare(title: str, store: ChunkStore, batch_size: int, repeats: int) -> list[dict[str, object]]:
    """Rows of one store."""
    n = min(len(store), 4 * batch_size)
    array = zarr.open_array(f"{store.url}/chunks", mode="r")
    readers: dict[str, ChunkReader] = {
        "ours": our_reader(store.url),
        "zarr": zarr_reader(array),
        "tensorstore": tensorstore_reader(f"{store.url}/chunks"),
    }
    order = np.random.default_rng(0).permutation(len(store))[:n]
    chunk_mb = 2 * float(np.prod(store.chunk_size_vx)) / MB
    rows = []
    for access, positions in (("random", order), ("sequential", np.arange(n))):
        batches = [positions[start : start + batch_size] for start in range(0, n, batch_size)]
        seconds = measure(readers, batches, repeats)
        size = "x".join(map(str, store.chunk_size_vx))
        case = f"{title}, 2x{size} uint8 ({compression(store):.1f}-fold compressed), {access} batches of {batch_size}"
        cpu_ms = {name: 1000 * cpu for name, (cpu, _) in seconds.items()}
        mb_s = {name: chunk_mb / wall for name, (_, wall) in seconds.items()}
        for other in ("zarr", "tensorstore"):
            cpu = {"ours": cpu_ms["ours"], "baseline": cpu_ms[other], "unit": "ms"}
            rate = {"ours": mb_s["ours"], "baseline": mb_s[other], "unit": "MB/s"}
            rows += [
                {"case": f"{case}, against {other}: CPU a chunk", **cpu, "ratio": cpu_ms[other] / cpu_ms["ours"]},
                {"case": f"{case}, against {other}: rate", **rate, "ratio": mb_s["ours"] / mb_s[other]},
            ]
    return rows


def main() -> None:
    """Run the benchmark and write its result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--chunks", type=int, default=48, help="full-size chunks to make, 6.8 MB each")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--result", type=Path, default=RESULT)
    arguments = parser.parse_args()
    rows = []
    try:
        rows += compare("the demo's store", ChunkStore(str(DEMO)), 32, arguments.repeats)
    except VolumeError as error:
        print(f"The demo's store is left out: {error}")
    with tempfile.TemporaryDirectory() as folder:
        stream = ChunkStream(synthetic_batches(arguments.chunks, FULL_SIZE_VX, 16), FULL_SIZE_VX, VOXEL_SIZE_NM, 16)
        write_chunk_store(stream, f"{folder}/chunks.zarr")
        rows += compare("full-size chunks", ChunkStore(f"{folder}/chunks.zarr"), 16, arguments.repeats)
    for row in rows:
        print(f"{row['case']}: {row['ours']:.2f} {row['unit']}, {row['baseline']:.2f}, {row['ratio']:.2f} x")
    machine = {
        "processor": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "tensorstore": version("tensorstore"),
        "zarr": zarr.__version__,
        "load_average": os.getloadavg()[0],
    }
    arguments.result.parent.mkdir(exist_ok=True)
    arguments.result.write_text(json.dumps({"machine": machine, "rows": rows}, indent=2) + "\n")


if __name__ == "__main__":
    main()
