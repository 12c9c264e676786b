"""What a pretraining run is, as validated parameters."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from synapseclr.augmentation import AugmentationConfig
from synapseclr.models import ModelConfig
from synapseclr.objectives import ObjectiveConfig
from synapseclr.training.checkpoints.config import CheckpointConfig
from synapseclr.training.optimisation.config import OptimiserConfig
from synapseclr.training.positives.config import PositivesConfig
from synapseclr.training.scale.config import ScaleConfig


class MonitoringConfig(BaseModel):
    """What is measured while training."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    probe_every_n_epochs: int = Field(1, ge=1, description="Epochs between two k-NN probes; the last is always probed.")
    probe_max_synapses: int = Field(1024, ge=2, description="Annotated synapses that the probe embeds, at most.")
    probe_neighbours: int = Field(15, ge=1, description="k of the k-NN probe.")
    probe_traits: tuple[str, ...] = Field(
        ("pre_cell_type", "post_cell_type"), description="Binary annotation columns that are probed."
    )
    collapse_effective_rank: float = Field(
        1.1, ge=0, description="A representation with a lower effective rank counts as collapsed; 1 is one direction."
    )
    max_constant_fraction: float = Field(
        0.5, ge=0, le=1, description="The run stops in its first epoch if more images show nothing; 1 allows all."
    )
    collapse_epochs: int = Field(5, ge=1, description="The run stops after so many collapsed epochs in a row.")


class PretrainingConfig(ScaleConfig):
    """Parameters of the ``pretraining`` pipeline."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    seed: int = Field(0, ge=0, description="Weights, splits, order and augmentations all follow from it.")
    model: ModelConfig = Field(default_factory=ModelConfig)
    initial_weights: str | None = Field(
        None,
        description="Start from these instead of random weights: a .safetensors file of ours or its folder, an MLflow "
        "URI, or a SynapseCLR or MedicalNet checkpoint (.pt, .pth).",
    )
    augmentation: AugmentationConfig = Field(default_factory=AugmentationConfig)
    objective: ObjectiveConfig = Field(default_factory=ObjectiveConfig)
    positives: PositivesConfig = Field(default_factory=PositivesConfig)
    optimiser: OptimiserConfig = Field(default_factory=OptimiserConfig)
    monitoring: MonitoringConfig = Field(default_factory=MonitoringConfig)
    checkpoints: CheckpointConfig = Field(default_factory=CheckpointConfig)
    epochs: int = Field(100, ge=1)
    batch_size: int = Field(48, ge=2, description="Synapses per step; each gives two views.")
    validation_fraction: float = Field(0.1, ge=0, lt=1, description="Share of the synapses that is held out.")
    drop_annotated: bool = Field(False, description="Leave annotated synapses out of the training.")
    resume: bool = Field(True, description="Continue an unfinished run of the same configuration on the same data.")
    accumulate_batches: int = Field(
        1,
        ge=1,
        description="Batches whose gradients are averaged into one step. Contrast stays within each batch: this is "
        "not a larger batch. An epoch's last step may have fewer, and is then weighted less.",
    )
    gradient_clip_norm: float | None = Field(None, gt=0, description="Longest gradient, over all weights; null: any.")
    precision: Literal["32-true", "bf16-mixed", "16-mixed"] = Field(
        "32-true",
        description="mixed: the network in 16 bits, augmentation, weights and loss in 32. 16-mixed: GPU only.",
    )
    accelerator: Literal["auto", "cpu", "gpu"] = Field("auto")
    channels_last: bool = Field(False, description="Keep channels innermost in memory; measure before you use it.")
    compile: bool = Field(False, description="Compile the training step's network; needs a C++ compiler; measure.")
    synchronise_batch_norm: bool = Field(
        True, description="Batch-norm statistics over the samples of all processes, where there are several."
    )
    view_threads: int = Field(
        0,
        ge=0,
        description="On a CPU: threads that draw the views of the next batch while the network works with the others; "
        "0: views are drawn within the step. As many as make both take equally long. Needs more threads than these.",
    )
    num_workers: int = Field(0, ge=0, description="Processes that read chunks; 0 reads in the training process.")
    prefetch_factor: int = Field(2, ge=1, description="Batches that each of these processes reads ahead.")
    chunk_cache_mb: int = Field(
        1024, ge=0, description="All synapses, prepared for their views, are held in memory if they fit into this."
    )

    @model_validator(mode="after")
    def _stages_fit(self) -> PretrainingConfig:
        self.optimiser.stage_epochs(self.epochs)
        return self


class EmbeddingPoses(BaseModel):
    """The views of a synapse that its features are made of, the same for all synapses."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    n_rotations: int = Field(
        1, ge=1, description="Poses over which features are averaged; their spread becomes an uncertainty per synapse."
    )
    magnifications: tuple[Annotated[float, Field(gt=0.0)], ...] = Field(
        (1.0,),
        min_length=1,
        description="Magnifications at which a synapse is embedded; the features of all of them stand side by side.",
    )


class EmbeddingConfig(EmbeddingPoses, ScaleConfig):
    """Parameters of the ``embedding`` pipeline. Sizes and normalisation follow pretraining's augmentation."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    batch_size: int = Field(64, ge=1, description="Chunks embedded at a time.")
    device: str = Field("auto", description="auto, cpu, cuda, cuda:1, ...")
    chunk_cache_mb: int = Field(
        1024, ge=0, description="All synapses, prepared for their views, are held in memory if they fit into this."
    )

    @property
    def poses(self) -> EmbeddingPoses:
        """Rotations and magnifications alone."""
        return EmbeddingPoses(n_rotations=self.n_rotations, magnifications=self.magnifications)
