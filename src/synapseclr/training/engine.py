"""Train an encoder from a chunk store; interrupted runs continue at the batch where their checkpoint was written."""

from __future__ import annotations

import logging
import signal
import warnings
from dataclasses import dataclass

import lightning
import numpy as np
import pandas as pd
import torch
from lightning.pytorch.utilities.exceptions import SIGTERMException
from lightning_utilities.core import rank_zero

from synapseclr.errors import ConfigurationError, TrainingInterrupted
from synapseclr.models import EncoderWeights
from synapseclr.training.callbacks import EpochRecorder, EpochReport, KNNProbe, TrainingBar, TrainingGuard
from synapseclr.training.checkpoints import (
    CheckpointFolder,
    Checkpoints,
    FolderCheckpointIO,
    PartialEpochMetrics,
    find_unfinished,
    fingerprint,
)
from synapseclr.training.config import PretrainingConfig, ProbeTargets
from synapseclr.training.data import ChunkDataModule
from synapseclr.training.module import PretrainingModule
from synapseclr.training.positives import NeuriteTable
from synapseclr.training.throughput import ThroughputMonitor
from synapseclr.training.view_scale import VIEW_VOXEL, VOXEL_SIZE, ViewScale, fitted_augmentation
from synapseclr.training.workers import trainer_processes
from synapseclr.volumes import ChunkStore

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainingResult:
    """Result of a training.

    Attributes:
        weights: Weights of the last epoch.
        history: One row an epoch: ``epoch, learning_rate, train_loss, validation_loss, alignment, uniformity,
            effective_rank, knn_<trait>``, and the measured ``WALL_CLOCK_METRICS`` of
            :mod:`synapseclr.training.throughput`, in which two equal runs differ.
    """

    weights: EncoderWeights
    history: pd.DataFrame


def fit(
    store: ChunkStore,
    config: PretrainingConfig,
    checkpoint_folder: str,
    probe: ProbeTargets | None = None,
    report: EpochReport = lambda _epoch, _metrics: None,
    neurites: NeuriteTable | None = None,
) -> TrainingResult:
    """Train a SimCLR model.

    Args:
        store: Chunks to learn from.
        config: The run's parameters.
        checkpoint_folder: Local path or fsspec URL for checkpoints; an unfinished run of the same configuration on the
            same data that lies there is continued (``config.resume``).
        probe: Annotated synapses for the k-NN probe; these are left out of training under ``config.drop_annotated``.
        report: Called with (epoch, metrics) after every epoch.
        neurites: Of all stored synapses; needed under ``config.positives.kind = "same_neurite"`` only.

    Raises:
        ConfigurationError: If the configuration does not fit the data.
        CheckpointError: If a checkpoint cannot be written, or none of those that are there can be continued.
        TrainingDivergedError: If loss or weights are not finite, the images show nothing, or the representation has
            collapsed.
        TrainingInterrupted: If SIGTERM or SIGINT came; a checkpoint was written.
    """
    on_gpu = {"auto": None, "cpu": False, "gpu": True}[config.accelerator]
    if config.is_one_process(on_gpu):
        return train_in_process(store, config, checkpoint_folder, probe, report, neurites)
    from synapseclr.training.launching import launch

    arguments = (store, config, checkpoint_folder, probe, neurites)
    result: TrainingResult = launch(_train_in_worker, arguments, config, on_gpu, report)
    return result


def _train_in_worker(
    store: ChunkStore,
    config: PretrainingConfig,
    checkpoint_folder: str,
    probe: ProbeTargets | None,
    neurites: NeuriteTable | None,
    report: EpochReport,
) -> TrainingResult:
    return train_in_process(store, config, checkpoint_folder, probe, report, neurites)


def train_in_process(
    store: ChunkStore,
    config: PretrainingConfig,
    checkpoint_folder: str,
    probe: ProbeTargets | None,
    report: EpochReport,
    neurites: NeuriteTable | None,
) -> TrainingResult:
    """Train in this process, which may be one of several that were launched together. Arguments and errors: ``fit``.

    Returns:
        The result; its history has rows in the first process only.
    """
    _check_fit(store, config)
    check_hardware(config)
    excluded = probe.indices if probe is not None and config.drop_annotated else np.empty(0, dtype=np.int64)
    data = ChunkDataModule(store, config, excluded, neurites)
    module = PretrainingModule(config)
    _check_initial_scale(module, store)
    folder = CheckpointFolder(f"{checkpoint_folder.rstrip('/')}/{fingerprint(store, config, neurites)}")
    resumption = find_unfinished(folder, module, config)
    knn = KNNProbe(data.synapses, probe) if probe is not None and len(probe.indices) and probe.labels else None
    throughput = ThroughputMonitor(config)
    recorder = EpochRecorder(report, knn, throughput)
    guard = TrainingGuard(config.monitoring, resumption.path)
    callbacks: list[lightning.Callback] = [
        TrainingBar(),
        *([knn] if knn is not None else []),
        throughput,
        PartialEpochMetrics(),
        recorder,
        guard,
        Checkpoints(folder, config.checkpoints, recorder, guard),
    ]
    for talkative in (logging.getLogger("lightning.pytorch"), logging.getLogger("lightning.fabric"), rank_zero.log):
        talkative.setLevel(logging.WARNING)  # the hardware that is not there, and advertisements
    trainer = lightning.Trainer(
        max_epochs=config.epochs,
        accelerator=config.accelerator,
        **trainer_processes(),
        precision=config.precision,
        accumulate_grad_batches=config.accumulate_batches,
        gradient_clip_val=config.gradient_clip_norm,
        callbacks=callbacks,
        plugins=[FolderCheckpointIO(folder, resumption)],
        profiler=throughput.profiler,
        logger=False,
        enable_model_summary=False,
        enable_progress_bar=False,
        use_distributed_sampler=False,
        num_sanity_val_steps=0,
        limit_val_batches=1.0 if len(data.validation_indices) else 0,
        log_every_n_steps=1,
    )
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*does not have many workers.*")
        warnings.filterwarnings("ignore", message=".*LeafSpec.*")
        warnings.filterwarnings("ignore", message=".*sync_dist=True.*")  # the loss is that of all processes already
        try:
            trainer.fit(module, data, ckpt_path=resumption.path, weights_only=True)
        except SIGTERMException:  # it came before the training began, to Lightning's own handler
            raise TrainingInterrupted(signal.SIGTERM) from None
    return _result(module, data, recorder)


def _result(module: PretrainingModule, data: ChunkDataModule, recorder: EpochRecorder) -> TrainingResult:
    provenance = {
        "seed": str(module.config.seed),
        "epochs": str(module.config.epochs),
        "chunks_sha256": data.store.sha256,
        "n_training_synapses": str(len(data.training_indices)),
        **ViewScale.of_views(module.config.augmentation, data.store.voxel_size_nm).record(),
        **module.initial_provenance,
        **(data.partners.provenance if data.partners is not None else {}),
    }
    state = {name: tensor.detach().cpu().clone() for name, tensor in module.model.state_dict().items()}
    return TrainingResult(EncoderWeights(state, module.config.model, provenance), _history(recorder))


def _history(recorder: EpochRecorder) -> pd.DataFrame:
    return pd.DataFrame(recorder.rows).astype({"epoch": "int64"}) if recorder.rows else pd.DataFrame()


def _check_initial_scale(module: PretrainingModule, store: ChunkStore) -> None:
    known = {name: module.initial_provenance.get(f"initial_{name}", "") for name in (VOXEL_SIZE, VIEW_VOXEL)}
    source = f"The weights of pretraining.initial_weights, {module.config.initial_weights},"
    fitted_augmentation(known, module.config.augmentation, store.voxel_size_nm, resample=None, name=source)


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


def check_hardware(config: PretrainingConfig) -> None:
    """Check precision and compilation against the device that will train.

    Raises:
        ConfigurationError: If half precision is asked for without a GPU, or nothing can be compiled here.
    """
    on_gpu = config.accelerator != "cpu" and torch.cuda.is_available()
    if config.precision == "16-mixed" and not on_gpu:
        raise ConfigurationError(
            "pretraining.precision is 16-mixed, which needs a GPU, and the training runs on the CPU (accelerator "
            f"'{config.accelerator}'). Set it to bf16-mixed or 32-true."
        )
    if config.compile:
        _check_compiler("cuda" if on_gpu else "cpu")


def _check_compiler(device: str) -> None:
    """Compile one small function: that finds out more than a look for a compiler's name."""
    try:
        torch.compile(lambda x: torch.relu(x) + 1, dynamic=False)(torch.ones(8, device=device))
    except Exception as error:
        reason = " ".join(str(error).split())[:300]
        raise ConfigurationError(
            f"pretraining.compile is true, but torch cannot compile for {device} here ({reason}). Install a C++ "
            "compiler (g++, or the one that the environment variable CXX names), or set pretraining.compile to false."
        ) from error
