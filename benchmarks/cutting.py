"""Cutting chunks out of shared storage blocks against one by one: ``python benchmarks/cutting.py``.

The volumes are the demo's simulated one (data/01_raw/simulated; run the demo's simulation first) and, where it is
there, the FIB-25 sample. The table has synapses clustered around the volume's own: each at the place of one of them,
moved by up to JITTER_VX voxels. The baseline downloads a box of each volume for every synapse through CloudVolume
(benchmarks/baselines/per_synapse_cutting.py); the chunks of both must be the same. Both take turns in one process.
What is counted is elapsed time: the smallest of the repeats; once for cutting alone, and once with storing, by us in a
chunk store, by the baseline in npy files.

Then, each in a process of its own: cutting and storing 1,000 and 10,000 synapses (rate and peak memory), and with one
and two workers of dask, their start included. Writes ``benchmarks/results/cutting.json``.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from baselines.per_synapse_cutting import cut_synapse

from synapseclr.volumes import (
    PrecomputedLayer,
    PreprocessingConfig,
    VolumeLayer,
    check_synapse_table,
    cut_chunks,
    write_chunk_store,
)
from synapseclr.volumes.cutting import CuttingSource
from synapseclr.volumes.synapse_table import POSITION_COLUMNS

PROJECT = Path(__file__).parents[1]
RESULT = PROJECT / "benchmarks/results/cutting.json"
SIMULATED = PROJECT / "data/01_raw/simulated"
REAL = PROJECT.parent / "shared/data/fib25_medulla"
LAYERS = ("em", "segmentation", "clefts")
JITTER_VX = 3


@dataclass(frozen=True)
class Volume:
    """Volumes and a table on disk, and how they are cut."""

    name: str
    folder: Path
    config: PreprocessingConfig

    @property
    def layers(self) -> tuple[VolumeLayer, VolumeLayer, VolumeLayer]:
        """EM, segmentation and clefts."""
        em, segmentation, clefts = (PrecomputedLayer(f"file://{self.folder.resolve() / name}", name) for name in LAYERS)
        return em, segmentation, clefts

    def clustered(self, n: int) -> pd.DataFrame:
        """N synapses around the volume's own."""
        own = check_synapse_table(pd.read_csv(self.folder / "synapses.csv"))
        rng = np.random.default_rng(0)
        table = own.iloc[rng.integers(0, len(own), n)].reset_index(drop=True)
        table["id"] = np.arange(1, n + 1)
        table[POSITION_COLUMNS] += rng.integers(-JITTER_VX, JITTER_VX + 1, (n, 3))
        return table

    def source(self, n: int, **changes: object) -> CuttingSource:
        """The chunks of n clustered synapses, nothing of which is in memory yet."""
        source = cut_chunks(*self.layers, self.clustered(n), self.config.model_copy(update=changes)).batches
        assert isinstance(source, CuttingSource)
        return source


def find_volumes(folder: Path) -> list[Volume]:
    """The volumes that are there; the real one is imported into the folder."""
    found = []
    if SIMULATED.exists():
        config = PreprocessingConfig(
            voxel_size_nm=(16, 16, 40), chunk_size_vx=(80, 80, 32), max_cleft_distance_nm=400, max_rejected_fraction=1
        )
        found.append(Volume("simulated", SIMULATED, config))
    if REAL.exists():
        subprocess.run([sys.executable, PROJECT / "scripts/import_npz_volume.py", REAL, folder / "fib25"], check=True)
        size_nm = tuple(json.loads((REAL / "meta.json").read_text())["voxel_nm"])
        config = PreprocessingConfig(
            voxel_size_nm=size_nm, chunk_size_vx=(128, 128, 26), max_cleft_distance_nm=400, max_rejected_fraction=1
        )
        found.append(Volume("FIB-25", folder / "fib25", config))
    return found


def compare(volume: Volume, n: int, n_baseline: int, repeats: int) -> list[dict[str, object]]:
    """Rows of one volume: rate of both ways, and how often blocks were decoded. Raises ValueError if chunks differ."""
    from cloudvolume import CloudVolume

    opened = tuple(CloudVolume(layer.uri, progress=False, fill_missing=False) for layer in volume.layers)
    best = {"ours": np.inf, "baseline": np.inf}
    stored = {"ours": np.inf, "baseline": np.inf}
    for _ in range(repeats + 1):  # the first one compiles and fills the system's cache
        source = volume.source(n)
        start = time.perf_counter()
        batches = [source.cut(shard) for shard in range(source.n_shards)]
        best["ours"] = min(best["ours"], (time.perf_counter() - start) / n)
        ours = {
            int(synapse_id): chunk
            for batch in batches
            for synapse_id, chunk in zip(batch.records.get("synapse_id", ()), batch.chunk_ncxyz, strict=True)
        }
        plan = source.plan
        rows = np.random.default_rng(1).permutation(n)[:n_baseline]
        start = time.perf_counter()
        chunks = [
            cut_synapse(opened, plan.centre_vx[row], int(plan.roots[0][row]), int(plan.roots[1][row]), volume.config)
            for row in rows
        ]
        seconds = (time.perf_counter() - start) / n_baseline
        best["baseline"] = min(best["baseline"], seconds)
        with tempfile.TemporaryDirectory() as target:
            start = time.perf_counter()
            for row, chunk in zip(rows, chunks, strict=True):
                if chunk is not None:
                    np.save(Path(target, f"{row}.npy"), chunk)
            stored["baseline"] = min(stored["baseline"], seconds + (time.perf_counter() - start) / n_baseline)
            stream = cut_chunks(*volume.layers, volume.clustered(n), volume.config)
            start = time.perf_counter()
            write_chunk_store(stream, f"{target}/s.zarr")
            stored["ours"] = min(stored["ours"], (time.perf_counter() - start) / n)
        for row, chunk in zip(rows, chunks, strict=True):
            other = ours.get(int(plan.synapse_id[row]))
            if (chunk is None) != (other is None) or (chunk is not None and not np.array_equal(chunk, other)):
                raise ValueError(f"the two ways disagree on synapse {plan.synapse_id[row]} of the {volume.name} volume")
    case = f"{volume.name}: {n} clustered synapses, cut"
    result: list[dict[str, object]] = []
    for what, seconds_of in ((case, best), (f"{case} and stored (ours compressed, flushed to the disk)", stored)):
        rate = {name: 1 / seconds for name, seconds in seconds_of.items()}
        result.append({"case": what, **rate, "unit": "synapses/s", "ratio": rate["ours"] / rate["baseline"]})
    for name, cache in zip(LAYERS, (source.cutter.em, source.cutter.segmentation, source.cutter.cleft), strict=True):
        boxes = (cache.indices(*source.cutter._box(centre)) for centre in plan.centre_vx)
        touched = [index for box in boxes for index in box]
        decoded, straightforward = cache.n_decoded / len(set(touched)), len(touched) / len(set(touched))
        result.append(
            {
                "case": f"{case}: how often a block of {name} is decoded",
                "ours": decoded,
                "baseline": straightforward,
                "unit": "times",
                "ratio": straightforward / decoded,
            }
        )
    return result


def measure(folder: Path, index: int, n: int, workers: int) -> dict[str, float]:
    """Cut and store n synapses in a process of its own; returns synapses/s and peak memory in MB."""
    command = [sys.executable, __file__, "--measure", str(folder), str(index), str(n), str(workers)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return dict(json.loads(done.stdout.splitlines()[-1]))


def measure_here(folder: Path, index: int, n: int, workers: int) -> None:
    """What the process of :func:`measure` does."""
    volume = stored_volumes(folder)[index]
    volume.source(8).cut(0)  # compiles
    layers, table = volume.layers, volume.clustered(n)
    config = volume.config.model_copy(update={"workers": workers})
    with tempfile.TemporaryDirectory() as target:
        start = time.perf_counter()
        write_chunk_store(cut_chunks(*layers, table, config), f"{target}/s.zarr")
        seconds = time.perf_counter() - start
    # Not ru_maxrss, which a process inherits from the one that started it.
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    peak_mb = int(status["VmHWM"].split()[0]) / 1024
    print(json.dumps({"rate": n / seconds, "peak_mb": peak_mb}))


def stored_volumes(folder: Path) -> list[Volume]:
    """What :func:`find_volumes` returned in the parent process."""
    described = json.loads((folder / "volumes.json").read_text())
    return [Volume(v["name"], Path(v["folder"]), PreprocessingConfig(**v["config"])) for v in described]


def scaling(folder: Path, index: int, name: str, n: int) -> list[dict[str, object]]:
    """Rows on numbers of synapses and of workers."""
    small, large = (measure(folder, index, size, 0) for size in (n, 10 * n))
    one, two = (measure(folder, index, 10 * n, workers) for workers in (1, 2))
    rows = []
    for case, ours, baseline, key, unit in (
        (f"cut and stored, {10 * n} synapses against {n}", large, small, "rate", "synapses/s"),
        (f"peak memory, {10 * n} synapses against {n}", large, small, "peak_mb", "MB"),
        (f"cut and stored, {10 * n} synapses, 2 workers of dask against 1", two, one, "rate", "synapses/s"),
        (f"cut and stored, {10 * n} synapses, 2 workers of dask against none", two, large, "rate", "synapses/s"),
    ):
        row = {"case": f"{name}: {case}", "ours": ours[key], "baseline": baseline[key], "unit": unit}
        rows.append(row | {"ratio": ours[key] / baseline[key]})
    return rows


def main() -> None:
    """Run the benchmark and write its result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--synapses", type=int, default=1000, help="and ten times as many")
    parser.add_argument("--baseline-synapses", type=int, default=60)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--result", type=Path, default=RESULT)
    parser.add_argument("--measure", nargs=4, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        folder, *numbers = arguments.measure
        measure_here(Path(folder), *map(int, numbers))
        return
    rows: list[dict[str, object]] = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        volumes = find_volumes(folder)
        described = [{"name": v.name, "folder": str(v.folder), "config": v.config.model_dump()} for v in volumes]
        (folder / "volumes.json").write_text(json.dumps(described))
        for volume in volumes:
            rows += compare(volume, arguments.synapses, arguments.baseline_synapses, arguments.repeats)
            save(rows, arguments.result)
        rows += scaling(folder, 0, volumes[0].name, arguments.synapses)
    save(rows, arguments.result)
    for row in rows:
        print(f"{row['case']}: {row['ours']:.2f} {row['unit']}, {row['baseline']:.2f}, {row['ratio']:.2f} x")


def save(rows: list[dict[str, object]], path: Path) -> None:
    """Write what was measured so far."""
    machine = {
        "processor": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "load_average": os.getloadavg()[0],
    }
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps({"machine": machine, "rows": rows}, indent=2) + "\n")


if __name__ == "__main__":
    main()
