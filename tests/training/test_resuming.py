"""A training that ends anywhere and is started again equals one that was never interrupted, bit for bit."""

import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch

from synapseclr.errors import ConfigurationError, TrainingInterrupted
from synapseclr.training import ProbeTargets, fit
from synapseclr.training.data import ChunkDataModule
from synapseclr.training.resuming import Progress
from synapseclr.training.throughput import WALL_CLOCK_METRICS
from synapseclr.volumes import ChunkStore

N_BATCHES = 4  # 20 synapses, 4 of them held out, in batches of 4
LABELS = np.array([0.0, 1.0] * 4)
PROBE = ProbeTargets(np.arange(8), {"pre_cell_type": LABELS}, {"pre_cell_type": np.arange(8)})


@dataclass(frozen=True)
class EventfulStore(ChunkStore):
    """Something happens at the n-th reading, counted from 1, or when one synapse is read."""

    at_reading: int = 0
    event: str = "the disk fails"
    unreadable: int = -1

    def read(self, indices):
        chunk_ncxyz = super().read(indices)
        if self.unreadable in list(indices):
            raise OSError(f"synapse {self.unreadable} cannot be read")
        self.__dict__["n"] = self.__dict__.get("n", 0) + 1
        if self.__dict__["n"] == self.at_reading:
            if self.event == "the disk fails":
                raise OSError("the disk fails")
            signal.raise_signal(getattr(signal, self.event))
        return chunk_ncxyz

    def __getstate__(self):
        return super().__getstate__() | {"unreadable": self.unreadable, "at_reading": 0}


@pytest.fixture(scope="module")
def config(tiny_config):
    """Batches are read from the disk one by one; every batch may be the last one."""
    return tiny_config.model_validate(
        tiny_config.model_dump() | {"chunk_cache_mb": 0, "checkpoints": {"every_n_steps": 1}}
    )


@pytest.fixture(scope="module")
def uninterrupted(chunks, config, tmp_path_factory):
    return fit(chunks, config, str(tmp_path_factory.mktemp("uninterrupted")), PROBE)


def reading(epoch, batch):
    """Number of the reading of a batch, all counted from 1; after the training, one of validation, two of the probe."""
    return (epoch - 1) * (N_BATCHES + 3) + batch


def checkpoint_of(folder):
    (path,) = Path(folder).glob("*/last.ckpt")
    return torch.load(path, weights_only=True)


def assert_equal(result, expected):
    timing = list(WALL_CLOCK_METRICS)
    left, right = (each.history.drop(columns=timing, errors="ignore") for each in (result, expected))
    assert left.to_csv() == right.to_csv()
    assert result.weights.sha256 == expected.weights.sha256


@pytest.mark.parametrize(("epoch", "batch"), [(1, 2), (2, 1), (3, 4)])
def test_a_run_that_fails_at_any_batch_is_continued_from_there(chunks, config, uninterrupted, tmp_path, epoch, batch):
    with pytest.raises(OSError, match="the disk fails"):
        fit(EventfulStore(chunks.url, at_reading=reading(epoch, batch)), config, str(tmp_path), PROBE)
    assert Progress.of(checkpoint_of(tmp_path)) == Progress(epoch - 1, batch - 1)
    assert_equal(fit(chunks, config, str(tmp_path), PROBE), uninterrupted)


def test_accumulated_gradients_are_not_lost(chunks, config, tmp_path):
    """A checkpoint lies where the optimiser has stepped: here, the one of three batches is from the second."""
    config = config.model_copy(update={"accumulate_batches": 2})
    with pytest.raises(OSError, match="the disk fails"):
        fit(EventfulStore(chunks.url, at_reading=reading(2, 4)), config, str(tmp_path / "broken"), PROBE)
    assert Progress.of(checkpoint_of(tmp_path / "broken")) == Progress(1, 2)
    continued = fit(chunks, config, str(tmp_path / "broken"), PROBE)
    assert_equal(continued, fit(chunks, config, str(tmp_path / "whole"), PROBE))


def test_batches_that_workers_have_read_ahead_are_not_counted_as_done(chunks, config, uninterrupted, tmp_path):
    """One worker reads three batches ahead; the run is then continued without it."""
    with_worker = config.model_copy(update={"num_workers": 1, "prefetch_factor": 3})
    loader = ChunkDataModule(chunks, config, np.empty(0, dtype=np.int64)).train_dataloader()
    third = list(loader.batch_sampler)[2]
    missing = int(loader.dataset.indices[third[0]])
    with pytest.raises(OSError, match="cannot be read"):
        fit(EventfulStore(chunks.url, unreadable=missing), with_worker, str(tmp_path), PROBE)
    assert Progress.of(checkpoint_of(tmp_path)) == Progress(0, 2)
    assert_equal(fit(chunks, config, str(tmp_path), PROBE), uninterrupted)


def test_the_middle_of_an_epoch_cannot_be_continued_with_another_number_of_batches(chunks, config):
    """As when a run on two devices is continued on one."""
    state = {"epoch": 1, "batches": 1, "of": N_BATCHES // 2}
    loader = ChunkDataModule(chunks, config, np.empty(0, dtype=np.int64)).train_dataloader()
    with pytest.raises(ConfigurationError, match=r"after batch 1 of 2 of an epoch, which has 4 batches now"):
        loader.load_state_dict(state)


@pytest.mark.parametrize(("name", "status"), [("SIGTERM", 143), ("SIGINT", 130)])
def test_a_signal_writes_a_checkpoint_after_the_step(chunks, config, uninterrupted, tmp_path, caplog, name, status):
    config = config.model_validate(config.model_dump() | {"checkpoints": {"every_n_minutes": None}})
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    with pytest.raises(TrainingInterrupted) as stopped:
        fit(EventfulStore(chunks.url, at_reading=reading(2, 3), event=name), config, str(tmp_path), PROBE)
    assert stopped.value.code == status
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before
    assert Progress.of(checkpoint_of(tmp_path)) == Progress(1, 3)
    assert f"{name}: the training has stopped, its checkpoint is {tmp_path}" in caplog.text
    assert "Run the same command again to continue" in caplog.text
    assert_equal(fit(chunks, config, str(tmp_path), PROBE), uninterrupted)


def test_a_signal_during_the_last_epochs_validation_loses_no_result(chunks, config, uninterrupted, tmp_path):
    last_validation = reading(3, N_BATCHES + 1)
    with pytest.raises(TrainingInterrupted):
        fit(EventfulStore(chunks.url, at_reading=last_validation, event="SIGTERM"), config, str(tmp_path), PROBE)
    reported = []
    unreadable = EventfulStore(chunks.url, at_reading=1)
    again = fit(unreadable, config, str(tmp_path), PROBE, lambda epoch, _metrics: reported.append(epoch))
    assert_equal(again, uninterrupted)
    assert reported == [1, 2, 3]


def test_kill_9_three_times_in_a_row():
    script = Path(__file__).parents[2] / "scripts" / "kill_and_resume.py"
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(script), "--times", "3"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("killed during") == 3
    assert "bit for bit" in done.stdout
