"""The chunk store against one npy file a synapse, by codec: ``python benchmarks/chunk_store.py``.

The chunks are cut out of the real volume (FIB-25), around its synapses and at random offsets from these, moved inwards
until none hangs over the volume's edge; where it is not there, out of the demo's simulated volume. Each codec stores
the same chunks in the same shards, with checksums; npy files are as the original kept them, ``(2, x, y, z)`` uint8.
Chunks are read in random order, BATCH at a time into one array as a training does, by the store's reader and by
``numpy.load`` and ``numpy.stack``, which take turns; all files are cached by the system for both alike. The best of the
repeats counts. The last rows are of the store as it is written, by ``ChunkStore.read``: in batches, one at a time,
and one at a time from the disk, the system having been told to drop the file from its cache before every read. Writes
``benchmarks/results/chunk_store.json``.
"""

import argparse
import json
import os
import platform
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from chunk_reading import measure, our_reader
from cutting import Volume, find_volumes
from numpy.typing import NDArray
from zarr.codecs import BloscCodec

from synapseclr.volumes import ChunkStore, write_chunk_store
from synapseclr.volumes.cutting import cut_chunks
from synapseclr.volumes.store.shard_reading import ChunkReader
from synapseclr.volumes.store.shards import ShardLayout
from synapseclr.volumes.synapse_table import POSITION_COLUMNS

RESULT = Path(__file__).parent / "results/chunk_store.json"
BATCH = 16
CODECS = [
    ("lz4", 5, "noshuffle"),
    ("lz4", 9, "noshuffle"),
    ("lz4", 9, "bitshuffle"),
    ("lz4hc", 1, "noshuffle"),
    ("lz4hc", 3, "noshuffle"),
    ("lz4hc", 5, "noshuffle"),
    ("lz4hc", 9, "noshuffle"),
    ("zstd", 1, "noshuffle"),
    ("zstd", 3, "noshuffle"),
    ("zstd", 3, "bitshuffle"),
    ("zstd", 6, "noshuffle"),
]


def stored_bytes(folder: Path) -> int:
    """Bytes of all files below a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def npy_reader(folder: Path) -> ChunkReader:
    """Read chunks that are a file each."""
    return lambda positions: np.stack([np.load(folder / f"{position}.npy") for position in positions])


def compare(
    path: Path, reader: ChunkReader, npy: Path, n: int, repeats: int, batch: int = BATCH
) -> dict[str, tuple[float, float]]:
    """Figures of an array or store on disk and of the npy files, by unit."""
    order = np.random.default_rng(0).permutation(n)
    batches = [order[first : first + batch] for first in range(0, n, batch)]
    seconds = measure({"ours": reader, "baseline": npy_reader(npy)}, batches, repeats)
    return {
        "bytes": (stored_bytes(path) / n, stored_bytes(npy) / n),
        "random reads/s": (1 / seconds["ours"][1], 1 / seconds["baseline"][1]),
    }


def drop_from_memory(path: Path) -> None:
    """Ask the system to forget a file's content."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def compare_from_disk(store: ChunkStore, npy: Path) -> dict[str, tuple[float, float]]:
    """Random single reads of files that the system does not hold in memory."""
    order = np.random.default_rng(1).permutation(len(store))
    readers = (our_reader(store.url), npy_reader(npy))
    readers[0](order)  # the shards' indices are kept
    shards = [path for path in Path(store.url, "chunks/c").rglob("*") if path.is_file()]
    seconds = np.zeros(2)
    for position in order:
        for path in (*shards, npy / f"{position}.npy"):
            drop_from_memory(path)
        for which, read in enumerate(readers):
            start = time.perf_counter()
            read(np.array([position]))
            seconds[which] += time.perf_counter() - start
    return {"random reads/s": (len(store) / seconds[0], len(store) / seconds[1])}


def rows_of(case: str, figures: dict[str, tuple[float, float]]) -> list[dict[str, Any]]:
    """Rows in the form of all benchmarks; the ratio is ours over npy's."""
    return [
        {"case": case, "ours": ours, "baseline": baseline, "unit": unit, "ratio": ours / baseline}
        for unit, (ours, baseline) in figures.items()
    ]


def encode(chunk_ncxyz: NDArray[np.uint8], layout: ShardLayout, path: Path, codec: tuple[str, int, str]) -> float:
    """Write an array with a codec; returns the seconds that it took."""
    name, level, shuffle = codec
    start = time.perf_counter()
    array = layout.create_array(
        str(path / "chunks"), len(chunk_ncxyz), codec=BloscCodec(cname=name, clevel=level, shuffle=shuffle)
    )
    for first in range(0, len(chunk_ncxyz), layout.synapses_per_shard):
        array[first : first + layout.synapses_per_shard] = chunk_ncxyz[first : first + layout.synapses_per_shard]
    return time.perf_counter() - start


def inwards(volume: Volume, table: pd.DataFrame) -> pd.DataFrame:
    """Move centres so that chunks lie inside of the volume; these ones' positions are in its voxels."""
    layer = volume.layers[0].at_resolution(volume.config.voxel_size_nm)
    half_vx = np.asarray(volume.config.chunk_size_vx) // 2
    upper_vx = layer.upper_vx - (np.asarray(volume.config.chunk_size_vx) - half_vx)
    return table.assign(
        **{
            name: table[name].clip(lower, upper)
            for name, lower, upper in zip(POSITION_COLUMNS, layer.lower_vx + half_vx, upper_vx, strict=True)
        }
    )


def run(volume: Volume, n: int, repeats: int, folder: Path) -> list[dict[str, Any]]:
    """All rows of a volume."""
    stream = cut_chunks(*volume.layers, inwards(volume, volume.clustered(n)), volume.config)
    write_chunk_store(stream, str(folder / "store.zarr"))
    store = ChunkStore(str(folder / "store.zarr"))
    chunk_ncxyz = store.read(slice(None))
    (folder / "npy").mkdir()
    for position, chunk_cxyz in enumerate(chunk_ncxyz):
        np.save(folder / "npy" / f"{position}.npy", chunk_cxyz)
    size = "x".join(map(str, store.chunk_size_vx))
    title = f"{volume.name}, {len(store)} chunks 2x{size}"
    rows = []
    for codec in CODECS:
        path = folder / "_".join(map(str, codec))
        mb_s = chunk_ncxyz.nbytes / 1e6 / encode(chunk_ncxyz, stream.layout, path, codec)
        case = f"{title}, {codec[0]} {codec[1]} {codec[2]} (written at {mb_s:.0f} MB/s)"
        rows += rows_of(case, compare(path, our_reader(str(path)), folder / "npy", len(store), repeats))
    title = f"{title}, the store with its records"
    for batch in (BATCH, 1):
        figures = compare(Path(store.url), store.read, folder / "npy", len(store), repeats, batch)
        rows += rows_of(f"{title}, {'batches of ' + str(batch) if batch > 1 else 'one at a time'}", figures)
    return rows + rows_of(f"{title}, one at a time, from the disk", compare_from_disk(store, folder / "npy"))


def main() -> None:
    """Run the benchmark and write its result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--synapses", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument(
        "--chunk-size", type=int, nargs=3, default=(256, 256, 52), help="in voxels; default: as published"
    )
    parser.add_argument("--result", type=Path, default=RESULT)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        volume = find_volumes(folder)[-1]
        changes = {"chunk_size_vx": tuple(arguments.chunk_size), "max_cleft_distance_nm": 1e6}
        volume = Volume(volume.name, volume.folder, volume.config.model_copy(update=changes))
        rows = run(volume, arguments.synapses, arguments.repeats, folder)
    for row in rows:
        print(f"{row['case']}: {row['ours']:.0f} {row['unit']}, npy {row['baseline']:.0f}, {row['ratio']:.2f} x")
    machine = {
        "processor": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "numcodecs": version("numcodecs"),
        "load_average": os.getloadavg()[0],
    }
    arguments.result.parent.mkdir(exist_ok=True)
    arguments.result.write_text(json.dumps({"machine": machine, "rows": rows}, indent=2) + "\n")


if __name__ == "__main__":
    main()
