"""Kill a training with SIGKILL at random moments, resume it, and compare it with one that was never interrupted.

Weights and history must agree bit for bit; otherwise this ends with status 1.

    OMP_NUM_THREADS=1 python scripts/kill_and_resume.py --times 10
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import random
import signal
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import monai.networks.nets  # noqa: F401  imported once, before the first fork: it takes longer than a training
import numpy as np

from synapseclr.training import PretrainingConfig, fit
from synapseclr.training.throughput import WALL_CLOCK_METRICS
from synapseclr.volumes import ChunkBatch, ChunkStore, ChunkStream, write_chunk_store

N_SYNAPSES, CHUNK_SIZE_VX = 24, (20, 20, 8)
CONFIG = PretrainingConfig.model_validate(
    {
        "epochs": 4,
        "batch_size": 4,
        "validation_fraction": 0.2,
        "chunk_cache_mb": 0,
        "accelerator": "cpu",
        "checkpoints": {"every_n_steps": 2},
        "model": {"encoder": "resnet18", "width_factor": 0.125, "projection_dims": [16, 8]},
        "augmentation": {
            "axial_to_sagittal_spacing": 2.5,
            "final_crop_size": 16,
            "final_img_size": 16,
            "cutout_size_min": 2,
            "cutout_size_max": 4,
            "active_zone_inflation_radii": [1, 2],
        },
    }
)


@dataclass(frozen=True)
class TellingStore(ChunkStore):
    """Writes a byte into a pipe whenever a batch is read, so that the other end knows how far the training is."""

    pipe: int = -1

    def read(self, indices: np.ndarray | list[int] | slice) -> np.ndarray:
        """Tell, then read."""
        os.write(self.pipe, b".")
        return super().read(indices)


def main() -> int:
    """Return 0 if every interrupted training equals the uninterrupted one."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, default=10, help="How often to kill; 10 by default.")
    parser.add_argument("--seed", type=int, default=None, help="Of the moments; random by default.")
    arguments = parser.parse_args()
    seed = random.randrange(2**31) if arguments.seed is None else arguments.seed
    rng = random.Random(seed)
    print(f"{arguments.times} times, seed {seed}")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        url = str(folder / "chunks.zarr")
        write_noise(url)
        expected = folder / "uninterrupted"
        live(url, expected)
        deaths = trainings = 0
        while deaths < arguments.times:
            trainings += 1
            broken = folder / f"broken_{trainings}"
            while deaths < arguments.times and not live(url, broken, rng):
                deaths += 1
            live(url, broken)  # as often as was asked for; now to its end, if it is not there yet
            if outcome(broken) != outcome(expected):
                print(f"training {trainings} differs from the uninterrupted one (seed {seed})")
                return 1
    print(f"killed {deaths} times in {trainings} trainings; all equal the uninterrupted one bit for bit")
    return 0


def live(url: str, folder: Path, rng: random.Random | None = None) -> bool:
    """Train in a child process, and kill it after some batches if a generator is given; True if it came to its end."""
    if (folder / "history.csv").exists():
        return True
    receiving, sending = os.pipe()
    child = multiprocessing.get_context("fork").Process(target=train, args=(url, folder, sending))
    child.start()
    os.close(sending)
    n_batches = rng.randint(1, 12) if rng is not None else None
    n_read = 0
    while n_read != n_batches and os.read(receiving, 1):
        n_read += 1
    if n_read == n_batches and rng is not None:
        time.sleep(rng.uniform(0, 0.2))  # in the step, or while a checkpoint is written
        os.kill(child.pid, signal.SIGKILL)
    child.join()
    os.close(receiving)
    if child.exitcode == -signal.SIGKILL:
        print(f"killed during batch {n_read} of this life", flush=True)
        return False
    if child.exitcode != 0:
        raise RuntimeError(f"The training ended with status {child.exitcode}, expected 0. Its output is above.")
    return True


def train(url: str, folder: Path, pipe: int) -> None:
    """Train, or continue, and leave weights and history in the folder."""
    result = fit(TellingStore(url, pipe=pipe), CONFIG, str(folder / "checkpoints"))
    (folder / "sha256").write_text(result.weights.sha256)
    result.history.drop(columns=list(WALL_CLOCK_METRICS), errors="ignore").to_csv(folder / "unfinished.csv")
    (folder / "unfinished.csv").rename(folder / "history.csv")


def outcome(folder: Path) -> tuple[str, str]:
    """Digest of the weights, and the history."""
    return (folder / "sha256").read_text(), (folder / "history.csv").read_text()


def write_noise(url: str) -> None:
    """Make a store of noise with a presynaptic slab, a cleft and a postsynaptic slab."""
    rng = np.random.default_rng(0)
    intensity_nxyz = rng.integers(60, 200, (N_SYNAPSES, *CHUNK_SIZE_VX))
    codes_nxyz = np.zeros_like(intensity_nxyz)
    codes_nxyz[:, 4:16, 4:10] = 1
    codes_nxyz[:, 4:16, 10:16] = 3
    codes_nxyz[:, 7:13, 9:11, 2:6] = 2
    zeros = np.zeros(N_SYNAPSES)
    names = ("cleft_id", "n_cutout_sections", "n_padded_voxels")
    records = {"synapse_id": np.arange(N_SYNAPSES), **dict.fromkeys(names, zeros)}
    batch = ChunkBatch(np.stack([intensity_nxyz, codes_nxyz], axis=1).astype(np.uint8), records)
    write_chunk_store(ChunkStream([batch], CHUNK_SIZE_VX, (16, 16, 40), N_SYNAPSES), url)


if __name__ == "__main__":
    sys.exit(main())
