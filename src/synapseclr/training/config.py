"""What a pretraining run is, as validated parameters."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from synapseclr.augmentation import AugmentationConfig
from synapseclr.models import ModelConfig
from synapseclr.objectives import ObjectiveConfig


class OptimiserConfig(BaseModel):
    """Adam with a cosine schedule. Defaults: as published."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    learning_rate: float = Field(2e-4, gt=0, description="At the first epoch.")
    final_learning_rate: float = Field(2e-5, ge=0, description="At the end of the cosine.")
    weight_decay: float = Field(0.0, ge=0, description="L2 penalty.")


class MonitoringConfig(BaseModel):
    """What is measured while training."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    probe_every_n_epochs: int = Field(1, ge=1, description="Epochs between two k-NN probes; the last is always probed.")
    probe_max_synapses: int = Field(1024, ge=2, description="Annotated synapses that the probe embeds, at most.")
    probe_neighbours: int = Field(15, ge=1, description="k of the k-NN probe.")
    probe_traits: tuple[str, ...] = Field(
        ("pre_cell_type", "post_cell_type"), description="Binary annotation columns that are probed."
    )


class PretrainingConfig(BaseModel):
    """Parameters of the ``pretraining`` pipeline."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    seed: int = Field(0, ge=0, description="Weights, splits, order and augmentations all follow from it.")
    model: ModelConfig = Field(default_factory=ModelConfig)
    augmentation: AugmentationConfig = Field(default_factory=AugmentationConfig)
    objective: ObjectiveConfig = Field(default_factory=ObjectiveConfig)
    optimiser: OptimiserConfig = Field(default_factory=OptimiserConfig)
    monitoring: MonitoringConfig = Field(default_factory=MonitoringConfig)
    epochs: int = Field(100, ge=1)
    batch_size: int = Field(48, ge=2, description="Synapses per step; each gives two views.")
    validation_fraction: float = Field(0.1, ge=0, lt=1, description="Share of the synapses that is held out.")
    drop_annotated: bool = Field(False, description="Leave annotated synapses out of the training.")
    resume: bool = Field(True, description="Continue an unfinished run of the same configuration on the same data.")
    precision: Literal["32-true", "bf16-mixed", "16-mixed"] = Field("32-true")
    accelerator: Literal["auto", "cpu", "gpu"] = Field("auto")
    channels_last: bool = Field(False, description="Keep channels innermost in memory; measure before you use it.")
    num_workers: int = Field(0, ge=0, description="Processes that read chunks; 0 reads in the training process.")
    chunk_cache_mb: int = Field(1024, ge=0, description="All chunks are held in memory if they fit into this.")


class EmbeddingConfig(BaseModel):
    """Parameters of the ``embedding`` pipeline. Sizes and normalisation follow pretraining's augmentation."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    batch_size: int = Field(64, ge=1, description="Chunks embedded at a time.")
    device: str = Field("auto", description="auto, cpu, cuda, cuda:1, ...")
