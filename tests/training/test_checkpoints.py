"""Checkpoints: when they are written, and how a training continues from them."""

import os
import resource
import shutil
import signal
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import fsspec
import numpy as np
import pytest
import torch
import warm_process

from synapseclr.errors import CheckpointError, ConfigurationError, TrainingInterrupted
from synapseclr.training import ProbeTargets, fit
from synapseclr.training.checkpoints import (
    BEST,
    LAST,
    PREVIOUS,
    CheckpointFolder,
    Progress,
    find_unfinished,
    fingerprint,
    monitored_score,
)
from synapseclr.training.config import CheckpointConfig
from synapseclr.training.data import ChunkDataModule
from synapseclr.training.module import PretrainingModule
from synapseclr.training.throughput import WALL_CLOCK_METRICS
from synapseclr.volumes import ChunkStore

N_BATCHES = 4  # 20 synapses, 4 of them held out, in batches of 4
LABELS = np.array([0.0, 1.0] * 4)
PROBE = ProbeTargets(np.arange(8), {"pre_cell_type": LABELS}, {"pre_cell_type": np.arange(8)})


def content(path):
    return torch.load(path, weights_only=True)


def is_epoch(number):
    """A crash right after an epoch was written: the next one's report fails."""

    def report(epoch, _metrics):
        if epoch > number:
            raise ConnectionError("the tracking server is gone")

    return report


@pytest.fixture(scope="module")
def config(tiny_config):
    return tiny_config.model_validate(tiny_config.model_dump() | {"checkpoints": {"every_n_epochs": 2}})


@pytest.fixture(scope="module")
def interrupted(chunks, config, tmp_path_factory):
    """Folder of a run of three epochs that ended after two; not to be changed."""
    folder = tmp_path_factory.mktemp("interrupted")
    with pytest.raises(ConnectionError):
        fit(chunks, config, str(folder), report=is_epoch(2))
    return folder


@pytest.fixture
def broken(interrupted, tmp_path):
    """A copy that may be changed, and the run's own folder in it."""
    shutil.copytree(interrupted, tmp_path / "copy")
    return tmp_path / "copy"


@pytest.fixture(scope="module")
def whole(chunks, config, tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    return folder, fit(chunks, config, str(folder))


def run_folder(folder):
    (inner,) = Path(folder).iterdir()
    return inner


def test_last_previous_best_and_every_nth_epoch_are_kept(whole):
    folder, result = whole
    inner = run_folder(folder)
    best = int(result.history["validation_loss"].idxmin()) + 1
    progress = {path.name: Progress.of(content(path)).epochs for path in inner.iterdir()}
    assert progress == {LAST: 3, PREVIOUS: 2, "epoch-0002.ckpt": 2, BEST: best}


def test_the_cadence_is_not_part_of_what_is_trained(chunks, config):
    other = config.model_copy(update={"checkpoints": CheckpointConfig(every_n_steps=7), "num_workers": 3})
    assert fingerprint(chunks, other) == fingerprint(chunks, config)
    assert fingerprint(chunks, config.model_copy(update={"batch_size": 5})) != fingerprint(chunks, config)


def test_within_an_epoch_last_is_written_when_the_minutes_have_passed(chunks, tiny_config, tmp_path):
    """A time so short that it has passed after every batch."""
    often = {"checkpoints": {"every_n_minutes": 1e-9}, "epochs": 1}
    with pytest.raises(ConnectionError):
        fit(chunks, tiny_config.model_validate(tiny_config.model_dump() | often), str(tmp_path), report=is_epoch(0))
    assert Progress.of(content(run_folder(tmp_path) / LAST)) == Progress(0, 3)


def damage(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def make_foreign(path):
    checkpoint = content(path)
    weight = checkpoint["state_dict"].pop("model.encoder.conv1.weight")
    checkpoint["state_dict"]["model.encoder.conv1.weight"] = weight[:, :, :5]
    torch.save(checkpoint, path)


def make_anothers(path):
    checkpoint = content(path) | {"synapseclr_fingerprint": "0123456789abcdef"}
    torch.save(checkpoint, path)


REASONS = {
    damage: "truncated, damaged, or another kind of file",
    make_foreign: "another architecture: 1 tensors differ, first 'model.encoder.conv1.weight'",
    make_anothers: "belongs to another configuration or other data",
}


@pytest.mark.parametrize("spoil", REASONS, ids=lambda spoil: spoil.__name__)
def test_the_previous_checkpoint_takes_the_place_of_a_useless_last(config, broken, caplog, spoil):
    inner = run_folder(broken)
    spoil(inner / LAST)
    found = find_unfinished(CheckpointFolder(str(inner)), PretrainingModule(config), config)
    assert found.path == f"{inner}/{PREVIOUS}"
    (warning,) = [record.message for record in caplog.records if record.levelname == "WARNING"]
    assert warning.startswith(f"{inner}/{LAST}")
    assert REASONS[spoil] in warning
    assert f"Continuing from {inner}/{PREVIOUS} (after epoch 1) instead" in warning


def test_after_a_damaged_last_the_run_ends_as_ever_and_the_damaged_one_is_not_kept(chunks, config, broken, whole):
    inner = run_folder(broken)
    damage(inner / LAST)
    assert fit(chunks, config, str(broken)).weights.sha256 == whole[1].weights.sha256
    assert Progress.of(content(inner / PREVIOUS)).epochs == 2


@pytest.mark.parametrize("spoil", REASONS, ids=lambda spoil: spoil.__name__)
def test_useless_checkpoints_alone_are_an_error_that_says_what_to_do(chunks, config, broken, spoil):
    inner = run_folder(broken)
    for path in inner.iterdir():
        spoil(path)
    with pytest.raises(CheckpointError) as raised:
        fit(chunks, config, str(broken))
    assert str(raised.value).startswith(f"{inner}/{LAST}")
    assert REASONS[spoil] in str(raised.value)
    assert "Delete the file, or train from the start with pretraining.resume: false." in str(raised.value)


def test_without_resume_a_damaged_checkpoint_is_replaced(chunks, config, broken):
    damage(run_folder(broken) / LAST)
    with pytest.raises(ConnectionError):
        fit(chunks, config.model_copy(update={"resume": False}), str(broken), report=is_epoch(1))
    assert Progress.of(content(run_folder(broken) / LAST)).epochs == 1


def test_without_last_the_previous_one_is_continued(chunks, config, broken, whole):
    """As after a power cut between the two renames of a write."""
    (run_folder(broken) / LAST).unlink()
    assert fit(chunks, config, str(broken)).weights.sha256 == whole[1].weights.sha256


@contextmanager
def largest_file(n_bytes):
    """No file of this process grows beyond a size: what is written beyond it fails as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_is_an_error_and_the_previous_last_stays(chunks, config, broken, whole):
    inner = run_folder(broken)
    before = (inner / LAST).read_bytes()
    with largest_file(len(before) // 2), pytest.raises(CheckpointError, match=r"^A checkpoint of ") as failed:
        fit(chunks, config, str(broken))
    message = str(failed.value)
    assert f"could not be written to {inner} (File too large)" in message
    assert f"{LAST} there is intact: run the same command" in message
    assert (inner / LAST).read_bytes() == before
    assert {path.name for path in inner.iterdir()} == {BEST, "epoch-0002.ckpt", PREVIOUS, LAST}
    assert fit(chunks, config, str(broken)).weights.sha256 == whole[1].weights.sha256


@pytest.fixture
def small_disk(tmp_path):
    """A file system of one mebibyte."""
    mount_point = tmp_path / "disk"
    mount_point.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(mount_point)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True).returncode != 0:
        pytest.skip("mounting a file system needs root")
    yield mount_point
    subprocess.run(["umount", str(mount_point)], check=True)


def test_no_space_left_on_the_disk_leaves_the_last_checkpoint(small_disk):
    folder = CheckpointFolder(f"{small_disk}/run")
    folder.write_last({"weights": torch.zeros(150_000)}, keep_previous=True)
    before = folder.read(LAST)
    with pytest.raises(CheckpointError, match=rf"{small_disk}/run \(No space left on device\).*{LAST} there is intact"):
        folder.write_last({"weights": torch.ones(150_000)}, keep_previous=True)
    assert folder.names() == [LAST]
    assert folder.read(LAST) == before


def test_a_remote_folder_holds_the_same_files(chunks, config, whole):
    url = "memory://checkpoints-of-a-test"
    with pytest.raises(ConnectionError):
        fit(chunks, config, url, report=is_epoch(2))
    filesystem, path = fsspec.core.url_to_fs(url)
    assert {Path(name).name for name in filesystem.find(path)} == {BEST, "epoch-0002.ckpt", PREVIOUS, LAST}
    assert fit(chunks, config, url).weights.sha256 == whole[1].weights.sha256


def test_the_best_epoch_is_that_of_the_highest_mean_of_the_probes():
    row = {"train_loss": 3.0, "validation_loss": 2.0, "knn_pre": 0.6, "knn_post": 0.8}
    assert monitored_score(row, CheckpointConfig(), has_probe=True) == pytest.approx(0.7)
    assert monitored_score({"train_loss": 3.0, "validation_loss": 2.0}, CheckpointConfig(), has_probe=True) is None
    assert monitored_score({"train_loss": 3.0, "validation_loss": 2.0}, CheckpointConfig(), has_probe=False) == -2.0
    assert monitored_score({"train_loss": 3.0}, CheckpointConfig(), has_probe=False) == -3.0
    assert monitored_score({"train_loss": float("nan")}, CheckpointConfig(), has_probe=False) is None
    highest = CheckpointConfig(monitor="effective_rank", monitor_mode="max")
    assert monitored_score(row | {"effective_rank": 5.0}, highest, has_probe=True) == 5.0


def test_an_unknown_monitored_metric_is_an_error_that_lists_the_known_ones():
    row = {"epoch": 1.0, "train_loss": 3.0, "knn_pre": 0.6, "seconds": 1.0}
    with pytest.raises(ConfigurationError, match=r"monitor is 'loss', expected .*: knn_pre, train_loss\."):
        monitored_score(row, CheckpointConfig(monitor="loss"), has_probe=True)
    with pytest.raises(ConfigurationError, match=r"monitor is 'knn_post'"):
        monitored_score(row, CheckpointConfig(monitor="knn_post"), has_probe=True)


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
def fine(tiny_config):
    """Batches are read from the disk one by one; every batch may be the last one."""
    return tiny_config.model_validate(
        tiny_config.model_dump() | {"chunk_cache_mb": 0, "checkpoints": {"every_n_steps": 1}}
    )


@pytest.fixture(scope="module")
def uninterrupted(chunks, fine, tmp_path_factory):
    return fit(chunks, fine, str(tmp_path_factory.mktemp("uninterrupted")), PROBE)


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
def test_a_run_that_fails_at_any_batch_is_continued_from_there(chunks, fine, uninterrupted, tmp_path, epoch, batch):
    with pytest.raises(OSError, match="the disk fails"):
        fit(EventfulStore(chunks.url, at_reading=reading(epoch, batch)), fine, str(tmp_path), PROBE)
    assert Progress.of(checkpoint_of(tmp_path)) == Progress(epoch - 1, batch - 1)
    assert_equal(fit(chunks, fine, str(tmp_path), PROBE), uninterrupted)


def test_accumulated_gradients_are_not_lost(chunks, fine, tmp_path):
    """A checkpoint lies where the optimiser has stepped: here, the one of three batches is from the second."""
    fine = fine.model_copy(update={"accumulate_batches": 2})
    with pytest.raises(OSError, match="the disk fails"):
        fit(EventfulStore(chunks.url, at_reading=reading(2, 4)), fine, str(tmp_path / "broken"), PROBE)
    assert Progress.of(checkpoint_of(tmp_path / "broken")) == Progress(1, 2)
    continued = fit(chunks, fine, str(tmp_path / "broken"), PROBE)
    assert_equal(continued, fit(chunks, fine, str(tmp_path / "whole"), PROBE))


def test_batches_that_workers_have_read_ahead_are_not_counted_as_done(chunks, fine, uninterrupted, tmp_path):
    """One worker reads three batches ahead; the run is then continued without it."""
    with_worker = fine.model_copy(update={"num_workers": 1, "prefetch_factor": 3})
    loader = ChunkDataModule(chunks, fine, np.empty(0, dtype=np.int64)).train_dataloader()
    third = list(loader.batch_sampler)[2]
    missing = int(loader.dataset.indices[third[0]])
    with pytest.raises(OSError, match="cannot be read"):
        fit(EventfulStore(chunks.url, unreadable=missing), with_worker, str(tmp_path), PROBE)
    assert Progress.of(checkpoint_of(tmp_path)) == Progress(0, 2)
    assert_equal(fit(chunks, fine, str(tmp_path), PROBE), uninterrupted)


def test_the_middle_of_an_epoch_cannot_be_continued_with_another_number_of_batches(chunks, fine):
    """As when a run on two devices is continued on one."""
    state = {"epoch": 1, "batches": 1, "of": N_BATCHES // 2}
    loader = ChunkDataModule(chunks, fine, np.empty(0, dtype=np.int64)).train_dataloader()
    with pytest.raises(ConfigurationError, match=r"after batch 1 of 2 of an epoch, which has 4 batches now"):
        loader.load_state_dict(state)


@pytest.mark.parametrize(("name", "status"), [("SIGTERM", 143), ("SIGINT", 130)])
def test_a_signal_writes_a_checkpoint_after_the_step(chunks, fine, uninterrupted, tmp_path, caplog, name, status):
    fine = fine.model_validate(fine.model_dump() | {"checkpoints": {"every_n_minutes": None}})
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    with pytest.raises(TrainingInterrupted) as stopped:
        fit(EventfulStore(chunks.url, at_reading=reading(2, 3), event=name), fine, str(tmp_path), PROBE)
    assert stopped.value.code == status
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before
    assert Progress.of(checkpoint_of(tmp_path)) == Progress(1, 3)
    assert f"{name}: the training has stopped, its checkpoint is {tmp_path}" in caplog.text
    assert "Run the same command again to continue" in caplog.text
    assert_equal(fit(chunks, fine, str(tmp_path), PROBE), uninterrupted)


def test_a_signal_during_the_last_epochs_validation_loses_no_result(chunks, fine, uninterrupted, tmp_path):
    last_validation = reading(3, N_BATCHES + 1)
    with pytest.raises(TrainingInterrupted):
        fit(EventfulStore(chunks.url, at_reading=last_validation, event="SIGTERM"), fine, str(tmp_path), PROBE)
    reported = []
    unreadable = EventfulStore(chunks.url, at_reading=1)
    again = fit(unreadable, fine, str(tmp_path), PROBE, lambda epoch, _metrics: reported.append(epoch))
    assert_equal(again, uninterrupted)
    assert reported == [1, 2, 3]


def test_kill_9_three_times_in_a_row():
    scripts, environment = Path(__file__).parents[2] / "scripts", os.environ | {"OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "kill_and_resume", "--times", "3"]
    done = warm_process.run(command, cwd=scripts, env=environment, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("killed during") == 3
    assert "bit for bit" in done.stdout
