"""Kill preprocessing at random moments, start it again each time, and compare the store with an uninterrupted one.

    python scripts/kill_preprocessing.py --moments 10

Simulates a small volume, cuts its chunks once in one go, and once with SIGKILL at random moments: while the command
starts, while it cuts, while it completes the store. After every kill the same command is given again. Ends with status
1 if the two stores differ in a byte.
"""

import argparse
import hashlib
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1]
STORE = "02_intermediate/synapse_chunks.zarr"
_POLL_S = 0.002


@dataclass(frozen=True)
class Moment:
    """When to kill: some time after the store has this many shards."""

    n_shards: int
    delay_s: float


def command(root: Path, pipeline: str, *parameters: str) -> list[str]:
    """Kedro's command line for a pipeline."""
    joined = ",".join([f"data_root={root}", *parameters])
    return [sys.executable, "-m", "kedro", "run", "--env=test", f"--pipeline={pipeline}", f"--params={joined}"]


def environment(root: Path) -> dict[str, str]:
    """Keep MLflow's records in the folder too."""
    return os.environ | {
        "DO_NOT_TRACK": "1",
        "MLFLOW_TRACKING_URI": f"sqlite:///{root}/mlflow.db",
        "MLFLOW_ARTIFACT_ROOT": str(root / "mlartifacts"),
    }


def n_recorded(store: Path) -> int:
    """Shards that an unfinished or finished store has."""
    return max(sum(1 for _ in Path(f"{store}{suffix}", "chunks/record").glob("0*.json")) for suffix in (".partial", ""))


def draw_moments(n: int, n_shards: int, rng: random.Random, start_up_s: float) -> list[Moment]:
    """Random moments, in the order of the progress that the store has made by then.

    Args:
        n: Number of moments.
        n_shards: Shards of the whole store; a moment at this number falls into the completion of the store.
        rng: Random numbers.
        start_up_s: Longest delay of a moment at 0 shards, when the command is starting.
    """
    shards = sorted(rng.randint(0, n_shards) for _ in range(n))
    return [Moment(k, rng.uniform(0, 0.05 if k else start_up_s)) for k in shards]


def kill_at(moment: Moment, store: Path, is_running: Callable[[], bool], kill: Callable[[], None]) -> str:
    """Kill a process that writes a store at a moment, if it still runs then; returns what had happened by then."""
    before = n_recorded(store)
    while is_running() and n_recorded(store) < moment.n_shards:
        time.sleep(_POLL_S)
    time.sleep(moment.delay_s)
    if is_running():
        kill()
        return f"killed with {before} shards at its start and {n_recorded(store)} at its end"
    return f"ended before it could be killed, with {n_recorded(store)} shards"


def run_and_kill(arguments: list[str], variables: dict[str, str], store: Path, moment: Moment) -> str:
    """Start the command and kill it at a moment."""
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(arguments, cwd=PROJECT, env=variables, stdout=output, stderr=subprocess.STDOUT)
        happened = kill_at(moment, store, lambda: process.poll() is None, process.kill)
        if process.wait() > 0:
            output.seek(0)
            raise RuntimeError(f"The command failed by itself:\n{output.read().decode()[-3000:]}")
    return happened


def digests(store: Path) -> dict[str, str]:
    """Digest of every object of a store, by its key."""
    return {
        path.relative_to(store).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in store.rglob("*")
        if path.is_file()
    }


def differences(store: Path, expected: Path) -> list[str]:
    """Keys of the objects that one store lacks, or that differ."""
    ours, theirs = digests(store), digests(expected)
    return sorted(key for key in ours.keys() | theirs.keys() if ours.get(key) != theirs.get(key))


def main() -> int:
    """Run it; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--moments", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        run = {"cwd": PROJECT, "env": environment(root), "check": True, "capture_output": True}
        for name in ("whole", "killed"):
            (root / name).mkdir()
        subprocess.run(command(root / "whole", "simulation"), **run)
        (root / "killed/01_raw").symlink_to(root / "whole/01_raw")  # the same volume, written at the same time
        preprocess = {
            name: command(root / name, "preprocessing", "preprocessing.synapses_per_shard=1")
            for name in ("whole", "killed")
        }
        began = time.monotonic()
        subprocess.run(preprocess["whole"], **run)
        seconds = time.monotonic() - began
        store = root / "killed" / STORE
        n_shards = n_recorded(root / "whole" / STORE)
        for moment in draw_moments(arguments.moments, n_shards, random.Random(arguments.seed), 0.8 * seconds):
            what = run_and_kill(preprocess["killed"], environment(root), store, moment)
            print(f"at {moment.n_shards} of {n_shards} shards + {moment.delay_s:.2f} s: {what}", flush=True)
        subprocess.run(preprocess["killed"], **run)
        different = differences(store, root / "whole" / STORE)
    print(f"{len(different)} objects differ: {', '.join(different[:5])}" if different else "The stores are the same.")
    return bool(different)


if __name__ == "__main__":
    sys.exit(main())
