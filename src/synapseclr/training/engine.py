"""Train an encoder from a chunk store; interrupted runs continue where their last epoch ended."""

from __future__ import annotations

import hashlib
import logging
import warnings
from dataclasses import dataclass

import fsspec
import lightning
import numpy as np
import pandas as pd
import torch
from lightning.pytorch.callbacks import ModelCheckpoint, RichProgressBar

from synapseclr.errors import ConfigurationError
from synapseclr.models import EncoderWeights
from synapseclr.training.callbacks import EpochRecorder, EpochReport, KNNProbe
from synapseclr.training.config import PretrainingConfig
from synapseclr.training.data import ChunkDataModule
from synapseclr.training.module import PretrainingModule
from synapseclr.training.probe_targets import ProbeTargets
from synapseclr.volumes import ChunkStore

logger = logging.getLogger(__name__)

_LAST = "last.ckpt"


@dataclass(frozen=True)
class TrainingResult:
    """What a training leaves behind.

    Attributes:
        weights: Weights of the last epoch.
        history: One row an epoch: ``epoch, learning_rate, train_loss, validation_loss, alignment, uniformity,
            effective_rank, knn_<trait>, seconds``.
    """

    weights: EncoderWeights
    history: pd.DataFrame


def fit(
    store: ChunkStore,
    config: PretrainingConfig,
    checkpoint_folder: str,
    probe: ProbeTargets | None = None,
    report: EpochReport = lambda _epoch, _metrics: None,
) -> TrainingResult:
    """Train a SimCLR model.

    Args:
        store: Chunks to learn from.
        config: The run's parameters.
        checkpoint_folder: Local path or fsspec URL for checkpoints; an unfinished run of the same configuration on the
            same data that lies there is continued (``config.resume``).
        probe: Annotated synapses for the k-NN probe; these are left out of training under ``config.drop_annotated``.
        report: Called with (epoch, metrics) after every epoch.

    Raises:
        ConfigurationError: If the configuration does not fit the data.
    """
    _check_fit(store, config)
    excluded = probe.indices if probe is not None and config.drop_annotated else np.empty(0, dtype=np.int64)
    data = ChunkDataModule(store, config, excluded)
    folder = f"{checkpoint_folder.rstrip('/')}/{_fingerprint(store, config)}"
    knn = KNNProbe(store, probe) if probe is not None and len(probe.indices) and probe.labels else None
    recorder = EpochRecorder(report, knn)
    checkpoints = ModelCheckpoint(folder, filename="last", enable_version_counter=False, save_on_train_epoch_end=True)
    callbacks: list[lightning.Callback] = [RichProgressBar(leave=False), recorder, checkpoints]
    if knn is not None:
        callbacks.insert(1, knn)
    for name in ("lightning.pytorch", "lightning.fabric", "lightning.pytorch.utilities.rank_zero"):
        logging.getLogger(name).setLevel(logging.WARNING)
    trainer = lightning.Trainer(
        max_epochs=config.epochs,
        accelerator=config.accelerator,
        devices=1,
        precision=config.precision,
        callbacks=callbacks,
        logger=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        num_sanity_val_steps=0,
        limit_val_batches=1.0 if len(data.validation_indices) else 0,
        log_every_n_steps=1,
    )
    module = PretrainingModule(config)
    checkpoint = _unfinished(folder, config)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*does not have many workers.*")
        warnings.filterwarnings("ignore", message=".*LeafSpec.*")
        warnings.filterwarnings("ignore", message=".*Checkpoint directory.*exists and is not empty.*")
        trainer.fit(module, data, ckpt_path=checkpoint, weights_only=True)
    if trainer.interrupted:
        raise KeyboardInterrupt
    provenance = {
        "seed": str(config.seed),
        "epochs": str(config.epochs),
        "chunks_sha256": store.sha256,
        "n_training_synapses": str(len(data.training_indices)),
    }
    state = {name: tensor.detach().cpu().clone() for name, tensor in module.model.state_dict().items()}
    return TrainingResult(
        EncoderWeights(state, config.model, provenance), pd.DataFrame(recorder.rows).astype({"epoch": "int64"})
    )


def _check_fit(store: ChunkStore, config: PretrainingConfig) -> None:
    ratio, configured = store.axial_to_sagittal_spacing, config.augmentation.axial_to_sagittal_spacing
    if abs(ratio / configured - 1) > 0.01:
        raise ConfigurationError(
            f"pretraining.augmentation.axial_to_sagittal_spacing is {configured:g}, but the stored chunks' voxels are "
            f"{store.voxel_size_nm} nm, a ratio of {ratio:g}. Set the parameter to {ratio:g}."
        )
    channels = 2 if config.augmentation.channel_organization == "separate" else 1
    if config.model.in_channels != channels:
        raise ConfigurationError(
            f"pretraining.model.in_channels is {config.model.in_channels}, but channel_organization "
            f"'{config.augmentation.channel_organization}' makes {channels}. Set one to fit the other."
        )


def _fingerprint(store: ChunkStore, config: PretrainingConfig) -> str:
    """Name of a run's checkpoint folder: the same for the same configuration on the same data."""
    relevant = config.model_dump_json(exclude={"resume", "num_workers", "chunk_cache_mb", "accelerator", "monitoring"})
    return hashlib.sha256(f"{relevant}{store.sha256}".encode()).hexdigest()[:16]


def _unfinished(folder: str, config: PretrainingConfig) -> str | None:
    """Path of the checkpoint to continue from; a finished run is not continued but done again."""
    path = f"{folder}/{_LAST}"
    filesystem, plain_path = fsspec.core.url_to_fs(path)
    if not (config.resume and filesystem.exists(plain_path)):
        return None
    with filesystem.open(plain_path, "rb") as file:
        done = torch.load(file, map_location="cpu", weights_only=True)["epoch"] + 1
    if done >= config.epochs:
        return None
    logger.info("Continuing the unfinished training in %s after epoch %d of %d.", folder, done, config.epochs)
    return path
