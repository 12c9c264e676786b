"""Parameters of the analyses, validated before anything runs."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from synapseclr.analysis.gaussian_processes.config import GaussianProcessConfig
from synapseclr.volumes.synapse_ids import QueryValue

Layer = Literal["encoder.fc", "projector.mlp.0", "projector.mlp.3"]
FilterValue = bool | int | float | str


class _Config(BaseModel):
    """Frozen, and without tolerance for names that mean nothing."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class SimilarityConfig(_Config):
    """Nearest neighbours in feature space, and the queries that are answered and drawn."""

    layer: Layer = Field(default="encoder.fc", description="Recorded layer in which distances are taken.")
    n_neighbours: int = Field(default=7, ge=1, description="Neighbours listed per synapse and query (published: 7).")
    index: Literal["auto", "flat", "hnsw", "ivf"] = Field(
        default="auto",
        description="flat: exact; hnsw, ivf: approximate; auto: flat below 500,000 synapses, ivf from there on.",
    )
    query: QueryValue | None = Field(
        default=None,
        min_length=1,
        description="What to find more of: synapses 12, [12, 34], or 12+34 on the command line; or the path of a chunk "
        "(.npy, Zarr; on the command line, else in the catalog's query_chunks); null: representatives.",
    )
    combine: Literal["each", "mean", "union"] = Field(
        default="each",
        description="Several examples: each: a query of its own; mean: their mean feature; union: near to any of them.",
    )
    filter: dict[str, FilterValue] = Field(
        default_factory=dict,
        description="Only synapses with these values of metadata are found: column to value.",
    )
    n_queries: int = Field(default=6, ge=1, le=24, description="Synapses drawn if there is no query, one per region.")
    n_recall_queries: int = Field(
        default=200, ge=1, description="Queries on which approximate indices are compared with the exact one."
    )
    seed: int = Field(default=0, ge=0, description="Seed of the choice of queries.")


class ImputationConfig(_Config):
    """Probes that read annotated traits off a representation."""

    n_folds: int = Field(default=3, ge=2, description="Folds, grouped by neurite (published: 3).")
    n_fold_draws: int = Field(
        default=3, ge=1, le=50, description="Draws of the folds: scores and their intervals are over all of them."
    )
    n_neighbours: int = Field(default=10, ge=1, description="Neighbours of the k-NN probe.")
    min_annotated: int = Field(
        default=30, ge=4, description="Traits with fewer annotated synapses are listed, not scored."
    )
    penalties: tuple[float, ...] = Field(
        default=(0.01, 0.1, 1.0, 10.0, 100.0),
        min_length=1,
        description="L2 penalties tried by inner cross-validation, relative to a feature vector of unit length.",
    )
    statistics_batch_size: int = Field(
        default=32, ge=1, description="Chunks in memory at a time for statistics of images and masks."
    )
    label_fractions: tuple[float, ...] = Field(
        default=(0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 0.9),
        description="Fractions of the annotated synapses on the learning curves (published: 0.2 to 90 %); []: none.",
    )
    n_label_draws: int = Field(default=3, ge=1, le=10, description="Repetitions of the learning curves.")
    compare_by_gaussian_process: bool = Field(
        default=True, description="Score every representation and layer by Gaussian processes too, not by probes alone."
    )
    seed: int = Field(default=0, ge=0, description="Seed of the folds.")
    gaussian_processes: GaussianProcessConfig = Field(
        default_factory=GaussianProcessConfig, description="Imputation with uncertainty, by Gaussian processes."
    )


class ConsensusConfig(_Config):
    """Cell types of whole neurites from what their synapses say."""

    min_probability: float = Field(
        default=0.9, ge=0.5, lt=1, description="Below this posterior probability a neurite is left without a type."
    )
    n_folds: int = Field(default=5, ge=2, description="Folds of annotated neurites on which the posterior is tested.")
    min_neurites: int = Field(
        default=20, ge=4, description="Annotated neurites needed to fit the correlation of errors within a neurite."
    )
    default_correlation: float = Field(
        default=0.2, ge=0, le=1, description="That correlation where there are fewer; 0: errors are independent."
    )
    strata: tuple[int, ...] = Field(
        default=(2, 5), description="Upper ends of the classes of synapses per neurite (published: 20, 50)."
    )
    label_fractions: tuple[float, ...] = Field(
        default=(0.05, 0.04, 0.03, 0.02, 0.01),
        description="Annotated shares of all synapses at which typing is tested (published: 5 to 1 %); []: none.",
    )
    n_label_seeds: int = Field(default=3, ge=1, description="Draws of labels per fraction (published: 10).")
    n_bins: int = Field(default=8, ge=2, description="Bins of the reliability diagram, equally full.")
    seed: int = Field(default=0, ge=0, description="Seed of the folds.")


class ReportingConfig(_Config):
    """What the report shows."""

    title: str = Field(default="Synapse representations", description="Heading of the report.")
    probe: Literal["linear", "knn"] = Field(default="linear", description="Probe whose scores make up the evaluation.")
    n_examples: int = Field(default=12, ge=1, le=60, description="Example synapses on the contact sheet.")
    interactive: bool = Field(
        default=False, description="Put an interactive manifold into the report; adds about 5 MB of plotly to the file."
    )
    dpi: int = Field(
        default=150,
        ge=50,
        le=300,
        description="Resolution of the report's images, dots per inch; those that pipelines save have 150.",
    )
    seed: int = Field(default=0, ge=0, description="Seed of the choice of examples.")
