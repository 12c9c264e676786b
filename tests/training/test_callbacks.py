"""A training that goes wrong stops at once, says where, and leaves its good checkpoints."""

import logging
from pathlib import Path

import lightning
import numpy as np
import pytest
import torch

from synapseclr.errors import SynapseCLRError, TrainingDivergedError, VolumeError
from synapseclr.training import PretrainingConfig, fit
from synapseclr.training.callbacks import EpochRecorder, TrainingGuard
from synapseclr.training.checkpoints import (
    BEST,
    LAST,
    CheckpointFolder,
    Checkpoints,
    FolderCheckpointIO,
    Progress,
    Resumption,
)
from synapseclr.training.data import ChunkDataModule
from synapseclr.training.module import PretrainingModule
from synapseclr.training.serving.encoder_model import EncoderModel
from synapseclr.volumes import ChunkBatch, ChunkStore, ChunkStream, write_chunk_store


def changed(config, **sections):
    return config.model_validate(config.model_dump() | {"checkpoints": {"every_n_steps": 1}} | sections)


def diverging(config, learning_rate, **sections):
    return changed(config, optimiser={"learning_rate": learning_rate, "final_learning_rate": 0.0}, **sections)


def checkpoints(folder):
    return {path.name: torch.load(path, weights_only=True) for path in Path(folder).glob("*/*.ckpt")}


def all_finite(checkpoint):
    return all(tensor.isfinite().all() for tensor in checkpoint["state_dict"].values() if tensor.is_floating_point())


def test_a_loss_that_is_not_finite_ends_the_run_and_names_the_place(chunks, tiny_config, tmp_path):
    """One step with this learning rate makes weights that are finite and too large for the next one."""
    with pytest.raises(TrainingDivergedError) as raised:
        fit(chunks, diverging(tiny_config, 1e36), str(tmp_path))
    message = str(raised.value)
    assert "the loss is nan in epoch 1, batch 2, at learning rate 1e+36" in message
    assert f"{LAST}, written in epoch 1 after batch 1" in message
    assert "Try a lower optimiser.learning_rate" in message
    left = checkpoints(tmp_path)
    assert list(left) == [LAST]
    assert Progress.of(left[LAST]) == Progress(0, 1)
    assert all_finite(left[LAST])


def test_weights_that_are_not_finite_are_not_written(chunks, tiny_config, tmp_path):
    """The first step itself overflows, after a finite loss."""

    class Overflowing(PretrainingModule):
        def optimizer_step(self, *arguments, **named):
            super().optimizer_step(*arguments, **named)
            with torch.no_grad():
                self.model.encoder.conv1.weight[0] = torch.inf

    config = changed(tiny_config)
    folder = CheckpointFolder(f"{tmp_path}/run")
    recorder, guard = EpochRecorder(lambda _epoch, _metrics: None), TrainingGuard(config.monitoring)
    trainer = lightning.Trainer(
        max_epochs=1,
        accelerator="cpu",
        callbacks=[recorder, guard, Checkpoints(folder, config.checkpoints, recorder, guard)],
        plugins=[FolderCheckpointIO(folder, Resumption())],
        logger=False,
        enable_progress_bar=False,
    )
    data = ChunkDataModule(chunks, config, np.empty(0, dtype=np.int64))
    message = r"'model\.encoder\.conv1\.weight' holds NaN or infinite values in epoch 1, batch 1, .* No checkpoint had"
    with pytest.raises(TrainingDivergedError, match=message):
        trainer.fit(Overflowing(config), data)
    assert checkpoints(tmp_path) == {}


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_on_a_gpu_a_loss_that_is_not_finite_ends_the_run_one_step_later(chunks, tiny_config, tmp_path):
    config = diverging(tiny_config, 1e37, accelerator="gpu", checkpoints={"every_n_minutes": None})
    with pytest.raises(TrainingDivergedError, match=r"the loss is \S+ in epoch 1, batch 2"):
        fit(chunks, config, str(tmp_path))
    assert checkpoints(tmp_path) == {}


def test_a_collapsed_representation_ends_the_run_after_some_epochs(chunks, tiny_config, tmp_path):
    """No representation of four synapses has an effective rank of five."""
    config = changed(tiny_config, monitoring={"collapse_effective_rank": 5.0, "collapse_epochs": 2})
    reported = []
    with pytest.raises(TrainingDivergedError, match=r"below 5 in 2 epochs, and is \d\.\d+ in epoch 2\. The last good"):
        fit(chunks, config, str(tmp_path), report=lambda epoch, _metrics: reported.append(epoch))
    assert reported == [1, 2]
    assert BEST not in checkpoints(tmp_path)


def stored(chunks, folder, change):
    """The session's chunks with other intensities."""
    chunk_ncxyz = chunks.read(slice(None)).copy()
    chunk_ncxyz[:, 0] = change(chunk_ncxyz[:, 0])
    batch = ChunkBatch(chunk_ncxyz, {"synapse_id": chunks.synapse_id, **chunks.records})
    write_chunk_store(ChunkStream([batch], (20, 20, 8), (16, 16, 40), len(chunks)), f"{folder}/constant.zarr")
    return ChunkStore(f"{folder}/constant.zarr")


@pytest.mark.parametrize("intensity", [0, 130], ids=["black", "grey"])
@pytest.mark.parametrize("cache_mb", [0, 64], ids=["read", "prepared"])
def test_images_that_show_nothing_end_the_run_in_its_first_epoch(chunks, tiny_config, tmp_path, intensity, cache_mb):
    config = changed(tiny_config, chunk_cache_mb=cache_mb)
    constant = stored(chunks, tmp_path, lambda intensity_nxyz: np.full_like(intensity_nxyz, intensity))
    reported = []
    with pytest.raises(TrainingDivergedError, match=r"16 of the first 16 synapses are black or of one intensity"):
        fit(constant, config, str(tmp_path), report=lambda epoch, _metrics: reported.append(epoch))
    assert reported in ([], [1])


def test_a_few_images_that_show_nothing_do_not_end_it(chunks, tiny_config, tmp_path):
    def first_six_black(intensity_nxyz):
        return np.where(np.arange(len(intensity_nxyz))[:, None, None, None] < 6, 0, intensity_nxyz)

    some = stored(chunks, tmp_path, first_six_black)
    assert len(fit(some, changed(tiny_config, epochs=1), str(tmp_path)).history) == 1


def test_all_of_the_first_images_are_enough_to_stop_before_the_epoch_ends():
    guard = TrainingGuard(PretrainingConfig().monitoring)
    black, noise = torch.zeros(16, 2, 4, 4, 4, dtype=torch.uint8), torch.randint(0, 255, (16, 2, 4, 4, 4)).byte()
    guard._count_constant(black)
    with pytest.raises(TrainingDivergedError, match="32 of the first 32"):
        guard._count_constant(black)
    mixed = TrainingGuard(PretrainingConfig().monitoring)
    for batch in (noise, black, black):
        mixed._count_constant(batch)
    with pytest.raises(TrainingDivergedError, match="32 of the first 48"):
        mixed._check_inputs(0.5)
    mixed._check_inputs(1.0)


def test_a_short_training_that_ends_collapsed_says_so(chunks, tiny_config, tmp_path, caplog):
    config = changed(tiny_config, monitoring={"collapse_effective_rank": 5.0, "collapse_epochs": 9}, epochs=1)
    with caplog.at_level(logging.WARNING):
        fit(chunks, config, str(tmp_path))
    assert "has ended with an effective rank below pretraining.monitoring.collapse_effective_rank (5)" in caplog.text


def test_with_a_floor_of_zero_nothing_counts_as_collapsed(chunks, tiny_config, tmp_path):
    config = changed(tiny_config, monitoring={"collapse_effective_rank": 0.0, "collapse_epochs": 1}, epochs=1)
    assert len(fit(chunks, config, str(tmp_path)).history) == 1


def test_a_chunk_with_nan_does_not_get_into_a_store_and_the_error_names_the_synapse(tmp_path):
    chunk_ncxyz = np.zeros((3, 2, 4, 4, 4), np.float32)
    chunk_ncxyz[1, 0, 2, 2, 2] = np.nan
    zeros = np.zeros(3)
    names = ("cleft_id", "n_cutout_sections", "n_padded_voxels")
    records = {"synapse_id": np.array([70, 71, 72]), **dict.fromkeys(names, zeros)}
    stream = ChunkStream([ChunkBatch(chunk_ncxyz, records)], (4, 4, 4), (8, 8, 8), 3)
    with pytest.raises(VolumeError, match=r"The chunk of synapse 71 holds float32 values, NaN or infinite ones among"):
        write_chunk_store(stream, str(tmp_path / "chunks.zarr"))


def test_a_store_of_another_type_is_refused(chunks, tmp_path):
    import shutil

    import zarr

    path = tmp_path / "chunks.zarr"
    shutil.copytree(chunks.url, path)
    group = zarr.open_group(str(path), mode="r+")
    voxels = group["chunks"][:].astype(np.float32)
    group.create_array("chunks", data=voxels, overwrite=True)
    with pytest.raises(VolumeError, match=rf"The chunk store at {path} holds float32 chunks, expected uint8"):
        ChunkStore(str(path)).read([0])


def test_the_served_encoder_names_the_synapse_that_holds_nan():
    chunk_ncxyz = np.zeros((4, 2, 8, 8, 8), np.float32)
    chunk_ncxyz[2, 0, 1, 1, 1] = np.inf
    with pytest.raises(SynapseCLRError, match="Synapse 2 of the input, counted from 0, holds NaN or infinite values"):
        EncoderModel().predict(None, chunk_ncxyz)
