"""Parameters of the search for defective synapses."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from synapseclr.analysis.config import Layer
from synapseclr.volumes.synapse_ids import SynapseIds

UnsupervisedScore = Literal["mahalanobis", "knn", "lof"]


class OutliersConfig(BaseModel):
    """What is searched for, how, and which synapses are taken to be defective."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    layer: Layer = Field(default="encoder.fc", description="Recorded layer in which defects are searched.")
    with_masks: bool = Field(
        default=True,
        description="Join mask statistics to the features: how each mask looks, and what touches the cleft.",
    )
    with_statistics: bool = Field(default=False, description="Join the trivial image statistics to the features.")
    examples: SynapseIds = Field(
        default=(), description="Defective synapses somebody has marked: 12, [12, 34], or 12+34; none: unsupervised."
    )
    unsupervised: UnsupervisedScore = Field(
        default="mahalanobis",
        description="Score without examples: shrunk Mahalanobis distance, mean distance to neighbours, or LOF.",
    )
    shrinkage: float = Field(
        default=0.5, ge=0, le=1, description="Weight of the mean variance against each component's own in whitening."
    )
    prior_examples: float = Field(
        default=5.0,
        ge=0,
        description="Examples at which likeness to them weighs half as much as being unusual; 0: always as much.",
    )
    n_neighbours: int = Field(default=10, ge=1, description="Neighbours of the scores knn and lof.")
    n_candidates: int = Field(default=48, ge=1, description="Candidates listed, best first.")
    n_drawn: int = Field(default=24, ge=1, le=60, description="Candidates on the contact sheet.")
    accept: SynapseIds = Field(
        default=(), description="Synapses accepted as defective: the table excluded_synapses lists them."
    )
    exclude: bool = Field(
        default=True, description="Leave examples and accepted synapses out of the other analyses of the same run."
    )
    evaluated_examples: tuple[int, ...] = Field(
        default=(1, 5, 20), min_length=1, description="Numbers of examples at which known defects are searched again."
    )
    n_draws: int = Field(default=50, ge=2, description="Random draws of the examples per number.")
    precision_at: int = Field(default=10, ge=1, description="Candidates among which precision is taken.")
    seed: int = Field(default=0, ge=0, description="Seed of the draws.")
