"""The check of tables and volumes before anything is cut: ``python benchmarks/preflight.py``.

Seconds of the check of the demo's volume on the disk, and of 100,000 synapses with volumes and tables in a bucket on
this machine (the tests' Google Cloud Storage emulator, a process of its own). Tables are read and checked, layers
opened, 20 synapses tried; each run is a process of its own, whose imports are not counted. ``baseline`` is the limit
set for each. Needs the volume of ``kedro run --pipeline=simulation``. Writes ``benchmarks/results/preflight.json``.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from pathlib import Path

import fsspec
import numpy as np
import pandas as pd

from synapseclr.volumes import (
    PrecomputedLayer,
    PreprocessingConfig,
    check_synapse_table,
    write_precomputed,
)
from synapseclr.volumes.preflight import check_inputs
from synapseclr.volumes.synapse_table import POSITION_COLUMNS

PROJECT = Path(__file__).parents[1]
RESULT = Path(__file__).parent / "results/preflight.json"
BUCKET = "gs://synapseclr-test/preflight"
LAYERS = {"em": "EM volume", "segmentation": "segmentation volume", "clefts": "cleft volume"}
N_SYNAPSES, JITTER_VX = 100_000, 4
LIMITS_S = {"demo": 5.0, "bucket": 30.0}
CONFIG = PreprocessingConfig(voxel_size_nm=(16, 16, 40), chunk_size_vx=(80, 80, 32), max_cleft_distance_nm=400)


def check(place: str) -> dict[str, float]:
    """Read a synapse table and check it with its volumes; returns the seconds of both."""
    options = {"token": "anon"} if place.startswith("gs://") else None
    uri = place if "://" in place else f"file://{place}"
    layers = [PrecomputedLayer(f"{uri}/{name}", role, options) for name, role in LAYERS.items()]
    start = time.perf_counter()
    synapses = check_synapse_table(pd.read_csv(f"{place}/synapses.csv", storage_options=options))
    read = time.perf_counter()
    found = check_inputs(layers, synapses, synapses["id"], CONFIG)
    end = time.perf_counter()
    found.conclude()
    return {"n": len(synapses), "table_s": read - start, "check_s": end - read}


def fill_bucket(simulated: Path) -> None:
    """Put the volumes into the bucket, and a table of many synapses around those that they have."""
    filesystem = fsspec.filesystem("gs", token="anon")
    for name, role in LAYERS.items():
        layer = PrecomputedLayer(f"file://{simulated / name}", role).at_resolution(CONFIG.voxel_size_nm)
        array_xyz = layer.read(layer.lower_vx, layer.upper_vx - layer.lower_vx)
        kind = "image" if name == "em" else "segmentation"
        write_precomputed(array_xyz, f"{BUCKET}/{name}", CONFIG.voxel_size_nm, kind, storage_options={"token": "anon"})
    own = check_synapse_table(pd.read_csv(simulated / "synapses.csv"))
    rng = np.random.default_rng(0)
    table = own.iloc[rng.integers(0, len(own), N_SYNAPSES)].reset_index(drop=True)
    table["id"] = np.arange(1, N_SYNAPSES + 1)
    table[POSITION_COLUMNS] += rng.integers(-JITTER_VX, JITTER_VX + 1, (N_SYNAPSES, 3))
    with filesystem.open(f"{BUCKET}/synapses.csv", "w") as stream:
        table.to_csv(stream, index=False)


def measure(place: str, repeats: int) -> dict[str, float]:
    """Median seconds of fresh processes; the first one, which may compile, is not counted."""
    runs = []
    for _ in range(repeats + 1):
        command = [sys.executable, __file__, "--measure", place]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        runs.append(json.loads(done.stdout.splitlines()[-1]))
    return {name: statistics.median(run[name] for run in runs[1:]) for name in runs[0]}


def main() -> None:
    """Run the benchmark and write its result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--volume", type=Path, default=PROJECT / "data/01_raw/simulated")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--result", type=Path, default=RESULT)
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        import cloudvolume  # noqa: F401
        from numba import njit  # noqa: F401 - its import is no part of what is measured

        print(json.dumps(check(arguments.measure)))
        return
    emulator = [sys.executable, str(PROJECT / "tests/gcs_emulator.py")]
    with subprocess.Popen(emulator, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            os.environ["STORAGE_EMULATOR_HOST"] = server.stdout.readline().strip()
            fill_bucket(arguments.volume)
            seconds = {"demo": measure(str(arguments.volume), arguments.repeats)}
            seconds["bucket"] = measure(BUCKET, arguments.repeats)
        finally:
            server.terminate()
    rows = []
    for case, found in seconds.items():
        total = found["table_s"] + found["check_s"]
        row = {"case": f"{case}: {found['n']:,.0f} synapses, table and volumes", "ours": total, "unit": "s"}
        rows.append(
            row | {"of_this_the_table": found["table_s"], "baseline": LIMITS_S[case], "ratio": LIMITS_S[case] / total}
        )
    machine = {"processor": platform.processor() or platform.machine(), "cores": os.cpu_count()}
    machine["load_average"] = os.getloadavg()[0]
    arguments.result.write_text(json.dumps({"machine": machine, "rows": rows}, indent=2) + "\n")
    for row in rows:
        print(f"{row['case']}: {row['ours']:.2f} s, limit {row['baseline']:.0f} s")


if __name__ == "__main__":
    os.environ.setdefault("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")
    os.environ.setdefault("NO_GCE_CHECK", "true")
    main()
