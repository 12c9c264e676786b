"""Analyses beyond memory, killed ten times, and by two dask workers: the same results as undisturbed in one process.

Run ``python benchmarks/scale_interrupted.py --folder=/path``. It runs the documented command on simulated embeddings;
again in another folder, killed (SIGKILL) at ten moments spread over its duration and started anew each time; and once
more with blocks computed by two workers of a dask scheduler on the loopback. Tables and shards are compared byte by
byte. Figures go to ``benchmarks/results/scale_interrupted.json``.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

RESULTS = Path(__file__).parent / "results" / "scale_interrupted.json"
_PIPELINES = "simulated_embeddings,analysis_without_images"
_SETTINGS = {
    "in_memory": "false",
    "simulation.embeddings.n_features": "64",
    "simulation.embeddings.n_untrained_features": "8",
    "simulation.embeddings.n_annotated": "300",
    "row_blocks.rows": "4096",
    "imputation.gaussian_processes.condense_from": "10000",
    "imputation.gaussian_processes.n_condensed": "500",
    "imputation.gaussian_processes.n_seeds": "1",
    "imputation.n_fold_draws": "1",
    "imputation.label_fractions": "[0.5]",
    "imputation.n_label_draws": "1",
    "consensus.label_fractions": "[]",
    "manifold.n_fitted": "2000",
    "manifold.n_epochs": "20",
    "manifold.leakage.n_permutations": "20",
    "outliers.n_evaluated": "5000",
    "outliers.n_draws": "5",
    "similarity.index": "ivfpq",
}
_ENVIRONMENT = {"SYNAPSECLR_TRACKING": "off", "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}


def command(folder: Path, n_synapses: int, **further: str) -> list[str]:
    """The command of a run that writes to a folder."""
    settings = {"simulation.embeddings.n_synapses": str(n_synapses), **_SETTINGS, **further, "data_root": str(folder)}
    parameters = ",".join(f"{name}={value}" for name, value in settings.items())
    return [sys.executable, "-m", "kedro", "run", f"--pipelines={_PIPELINES}", f"--params={parameters}"]


def start(arguments: list[str], log: Path) -> subprocess.Popen[bytes]:
    """Start a process in a group of its own, which can be killed as a whole."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as written:
        return subprocess.Popen(
            arguments, env=os.environ | _ENVIRONMENT, stdout=written, stderr=subprocess.STDOUT, start_new_session=True
        )


def finish(arguments: list[str], log: Path) -> float:
    """Run to the end; wall-clock seconds."""
    started = time.monotonic()
    if start(arguments, log).wait():
        raise SystemExit(f"A run failed: {log}")
    return time.monotonic() - started


def differences(one: Path, other: Path) -> dict[str, str]:
    """Results that are not the same, by name: tables cell by cell, shards and indices byte by byte."""
    found = {}
    for path in sorted(path for path in one.rglob("*") if path.is_file()):
        name = path.relative_to(one)
        is_shard = any(part.endswith(".zarr") for part in name.parts) and "c" in name.parts
        if path.suffix not in (".parquet", ".csv", ".ivfdata") and not is_shard:
            continue
        if not (other / name).is_file():
            found[str(name)] = "missing"
        elif path.suffix == ".parquet":
            tables = [pd.read_parquet(each) for each in (path, other / name)]
            if not tables[0].equals(tables[1]):
                found[str(name)] = _largest(*tables)
        elif path.read_bytes() != (other / name).read_bytes():
            found[str(name)] = _largest(*map(pd.read_csv, (path, other / name))) if path.suffix == ".csv" else "bytes"
    return found


def _largest(one: pd.DataFrame, other: pd.DataFrame) -> str:
    """Largest difference of numbers, relative to the largest number of the column."""
    if one.shape != other.shape:
        return f"shape {one.shape} and {other.shape}"
    worst = 0.0
    for name in one.select_dtypes("number"):
        first, second = one[name].to_numpy(float), other[name].to_numpy(float)
        with np.errstate(invalid="ignore"):
            worst = max(
                worst, float(np.nanmax(np.abs(first - second) / max(np.nanmax(np.abs(first)), 1e-30), initial=0))
            )
    return f"relative {worst:.1e}"


def killed(folder: Path, n_synapses: int, seconds: float, n_kills: int) -> dict[str, Any]:
    """Run the same command, killed at moments spread over its duration, until it ends by itself."""
    log, at = folder / "run.log", []
    for kill in range(n_kills):
        moment = seconds * (kill + 0.7) / n_kills
        process = start(command(folder, n_synapses), log)
        time.sleep(moment)
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            at.append(round(moment, 1))
        process.wait()
    return {"killed_after_seconds": at, "last_run_seconds": round(finish(command(folder, n_synapses), log), 1)}


def by_workers(folder: Path, n_synapses: int) -> float:
    """Run with two workers of a dask scheduler on the loopback; wall-clock seconds of the run."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    address, log = f"tcp://127.0.0.1:{port}", folder / "dask.log"
    options = ["--host", "127.0.0.1", "--port", str(port), "--no-dashboard"]
    helpers = [start([sys.executable, "-m", "distributed.cli.dask_scheduler", *options], log)]
    worker = [sys.executable, "-m", "distributed.cli.dask_worker", address, "--nthreads", "1", "--no-dashboard"]
    helpers += [start([*worker, "--host", "127.0.0.1", "--no-nanny"], log) for _ in range(2)]
    try:
        return finish(command(folder, n_synapses, **{"row_blocks.scheduler_address": address}), folder / "run.log")
    finally:
        for helper in helpers:
            helper.terminate()
            helper.wait()


def main() -> None:
    """Run all three, and compare."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--synapses", type=int, default=100_000)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--folder", type=Path, required=True)
    options = parser.parse_args()
    known = {name: options.folder / name for name in ("undisturbed", "killed", "workers")}
    for folder in known.values():
        shutil.rmtree(folder, ignore_errors=True)
    found: dict[str, Any] = {"n_synapses": options.synapses, "settings": _SETTINGS}
    seconds = finish(command(known["undisturbed"], options.synapses), known["undisturbed"] / "run.log")
    found["undisturbed_seconds"] = round(seconds, 1)
    worked = by_workers(known["workers"], options.synapses)
    found |= {"two_workers_seconds": round(worked, 1), "two_workers_over_in_process": round(worked / seconds, 2)}
    found["two_workers_differences"] = differences(known["undisturbed"], known["workers"])
    RESULTS.write_text(json.dumps(found, indent=1) + "\n")
    found |= killed(known["killed"], options.synapses, seconds, options.kills)
    found["killed_differences"] = differences(known["undisturbed"], known["killed"])
    RESULTS.write_text(json.dumps(found, indent=1) + "\n")
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
