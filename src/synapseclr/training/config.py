"""Parameters of pretraining and embedding, validated; imported without torch."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from synapseclr.augmentation import AugmentationConfig
from synapseclr.models import ModelConfig
from synapseclr.objectives import ObjectiveConfig
from synapseclr.parameters import Parameters, ParametersOfKind
from synapseclr.training.launching import ScaleConfig
from synapseclr.training.positives import PositivesConfig
from synapseclr.volumes.table_schema import Column, TableSchema


class MonitoringConfig(Parameters):
    """Measurements while training, and the limits at which a training stops."""

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


class CheckpointConfig(Parameters):
    """When checkpoints are written; it does not change what is trained.

    ``last.ckpt`` is written at the end of every epoch and, as configured, within; ``last-previous.ckpt`` is the one
    before it. ``best.ckpt`` is that of the epoch with the best monitored metric.
    """

    every_n_minutes: float | None = Field(10.0, gt=0, description="Write `last` within an epoch, this often.")
    every_n_steps: int | None = Field(None, ge=1, description="Write `last` within an epoch, after so many batches.")
    every_n_epochs: int | None = Field(None, ge=1, description="Keep every n-th epoch's checkpoint: epoch-0010.ckpt.")
    monitor: str | None = Field(
        None,
        description="Metric of the history that decides on `best`. By default the mean of the k-NN probes where the "
        "run is probed, else validation_loss, and train_loss where nothing is held out.",
    )
    monitor_mode: Literal["min", "max"] = Field("min", description="Which end of `monitor` is the better one.")


_DEFAULTS: dict[str, dict[str, Any]] = {
    "lars": {
        "learning_rate": 0.3,
        "learning_rate_scaling": "linear",
        "final_learning_rate": 0.0,
        "weight_decay": 1e-6,
    },
    "adamw": {"weight_decay": 1e-2},
}


class OptimiserConfig(ParametersOfKind):
    """An optimiser, and the learning rate of every epoch.

    The learning rate is a cosine from ``learning_rate`` to ``final_learning_rate``, and starts again at every restart
    (Loshchilov & Hutter 2017, arXiv:1608.03983). The published pretraining, two stages of 100 epochs of which the
    second starts from the weights of the first, is ``epochs: 200`` with ``restarts: 1``.

    Defaults depend on the optimiser: for ``adam`` and for ``lars`` they are the published ones, for ``adamw`` the
    published ones of ``adam`` with torch's weight decay.
    """

    noun = "optimiser"
    own_parameters: ClassVar = {"lars": ("momentum", "trust_coefficient")}

    name: Literal["adam", "adamw", "lars"] = Field(
        "adam", description="adam; adamw: decoupled weight decay; lars: momentum with layer-wise rates, large batches."
    )
    learning_rate: float = Field(2e-4, gt=0, description="At the first epoch of a stage. lars: 0.3.")
    learning_rate_scaling: Literal["none", "linear"] = Field(
        "none", description="linear: both rates are times synapses per step / 256, over all processes. lars: linear."
    )
    final_learning_rate: float = Field(2e-5, ge=0, description="At the end of the cosine. lars: 0.")
    weight_decay: float = Field(
        0.0,
        ge=0,
        description="adam: L2 penalty, on all weights. adamw (0.01), lars (1e-6): not on biases and norms.",
    )
    warmup_epochs: int = Field(0, ge=0, description="Epochs of linear rise at the start of every stage.")
    restarts: int = Field(0, ge=0, description="How often the schedule starts again, in equal stages; published: 1.")
    reset_at_restart: bool = Field(
        True, description="A restart forgets the optimiser's moments, as published: only weights are taken over."
    )
    momentum: float = Field(0.9, ge=0, lt=1, description="LARS: momentum.")
    trust_coefficient: float = Field(1e-3, gt=0, description="LARS: share of a layer's norm that a step may move.")

    @model_validator(mode="before")
    @classmethod
    def _defaults_of_the_optimiser(cls, given: Any) -> Any:
        if not isinstance(given, dict):
            return given
        return _DEFAULTS.get(str(given.get("name")), {}) | given

    def stage_epochs(self, epochs: int) -> int:
        """Epochs of one stage of the schedule.

        Raises:
            ValueError: If ``epochs`` cannot be divided into ``restarts + 1`` equal stages that outlast the warm-up.
        """
        stages = self.restarts + 1
        if epochs % stages:
            raise ValueError(
                f"epochs is {epochs}, which optimiser.restarts {self.restarts} cannot divide into {stages} equal "
                f"stages. Set epochs to a multiple of {stages}, {epochs - epochs % stages + stages} for instance."
            )
        if self.warmup_epochs and self.warmup_epochs >= epochs // stages:
            raise ValueError(
                f"optimiser.warmup_epochs is {self.warmup_epochs}, but a stage has {epochs // stages} epochs. Warm up "
                "in fewer, or train longer."
            )
        return epochs // stages

    def learning_rate_at(self, epoch: int, epochs: int, synapses_per_step: int = 256) -> float:
        """Learning rate of an epoch: a function of the configuration and the epoch, of nothing else.

        Args:
            epoch: Counts from 0. From ``epochs`` on, the rate stays at the end of the cosine.
            epochs: Length of the run.
            synapses_per_step: Synapses that one step of the optimiser sees, over all processes and accumulated
                batches. It matters for linear scaling only (Goyal et al. 2017, arXiv:1706.02677).
        """
        scale = synapses_per_step / 256 if self.learning_rate_scaling == "linear" else 1.0
        high, low = self.learning_rate * scale, self.final_learning_rate * scale
        if epoch >= epochs:
            return low
        length = self.stage_epochs(epochs)
        position = epoch % length
        if position < self.warmup_epochs:
            return high * (position + 1) / (self.warmup_epochs + 1)
        progress = (position - self.warmup_epochs) / (length - self.warmup_epochs)
        return low + (high - low) * (1 + math.cos(math.pi * progress)) / 2

    def restarts_at(self, epoch: int, epochs: int) -> bool:
        """Tell the first epoch after a restart; epochs count from 0."""
        return 0 < epoch < epochs and epoch % self.stage_epochs(epochs) == 0


class PretrainingConfig(ScaleConfig):
    """Parameters of the ``pretraining`` pipeline."""

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


class EmbeddingPoses(Parameters):
    """The views of a synapse that its features are made of, the same for all synapses."""

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

    batch_size: int = Field(64, ge=1, description="Chunks embedded at a time.")
    batch_norm: Literal["trained", "these_chunks"] = Field(
        "trained",
        description="Statistics of the batch norms: those of the training, or taken anew from views of the chunks that "
        "are embedded, for weights that were trained on another volume.",
    )
    device: str = Field("auto", description="auto, cpu, cuda, cuda:1, ...")
    chunk_cache_mb: int = Field(
        1024, ge=0, description="All synapses, prepared for their views, are held in memory if they fit into this."
    )
    resample_to_weights: bool = Field(
        False,
        description="Where weights were trained on views of another voxel size than these: sample these views at "
        "theirs (true), or stop (false).",
    )

    @property
    def poses(self) -> EmbeddingPoses:
        """Rotations and magnifications alone."""
        return EmbeddingPoses(n_rotations=self.n_rotations, magnifications=self.magnifications)


class ServingConfig(Parameters):
    """Parameters of what ``pretraining`` leaves to be served."""

    registered_model: str | None = Field(
        None,
        min_length=1,
        pattern=r"^[^/:\s](?:[^/:]*[^/:\s])?$",
        description="Name in MLflow's model registry under which every run adds a version; null: only the run has it.",
    )


@dataclass(frozen=True)
class ProbeTargets:
    """Annotated synapses for the k-NN probe.

    Attributes:
        indices: Positions in the chunk store, (n,).
        labels: By trait: 0, 1 or NaN, (n,).
        groups: By trait: the neurite whose synapses must not vote for each other, (n,).
    """

    indices: NDArray[np.int64]
    labels: dict[str, NDArray[np.float64]]
    groups: dict[str, NDArray[np.int64]]


TRAINING_HISTORY = TableSchema(
    "The training history",
    {"epoch": Column("integer", unique=True, rule=("ge", {"min_value": 0})), "train_loss": Column(nullable=True)},
    key=None,
)
