"""Parameters of the analyses, validated before anything runs."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

Layer = Literal["encoder.fc", "projector.mlp.0", "projector.mlp.3"]


class _Config(BaseModel):
    """Frozen, and without tolerance for names that mean nothing."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class ManifoldConfig(_Config):
    """Projection to the plane: PCA, then UMAP. Defaults as published (REFERENCE: 128 PCs, 500 neighbours)."""

    layer: Layer = Field(default="encoder.fc", description="Recorded layer to project.")
    n_components: int = Field(default=128, ge=2, description="Principal components kept; at most the rank of the data.")
    n_neighbours: int = Field(
        default=500, ge=2, description="Neighbours of UMAP's graph; at most one third of the synapses."
    )
    min_dist: float = Field(
        default=0.1, ge=0, lt=1, description="Smallest distance of points in the plane, in UMAP units."
    )
    n_epochs: int = Field(default=5000, ge=1, description="Optimisation epochs of UMAP.")
    random_state: int | None = Field(
        default=0,
        description="Seed. null gives up reproducibility and lets UMAP use every core: do so beyond 50,000 synapses.",
    )


class SimilarityConfig(_Config):
    """Nearest neighbours in feature space, and the queries that are drawn."""

    layer: Layer = Field(default="encoder.fc", description="Recorded layer in which distances are taken.")
    n_neighbours: int = Field(default=7, ge=1, description="Neighbours listed per synapse (published: 7).")
    index: Literal["flat", "hnsw"] = Field(
        default="flat", description="flat: exact; hnsw: approximate, for a million synapses and more."
    )
    n_queries: int = Field(default=6, ge=1, le=24, description="Query synapses drawn, one per region of feature space.")
    query_synapse_ids: tuple[int, ...] | None = Field(
        default=None, description="Draw these synapses instead of chosen representatives."
    )
    seed: int = Field(default=0, ge=0, description="Seed of the choice of representatives.")


class ImputationConfig(_Config):
    """Probes that read annotated traits off a representation."""

    n_folds: int = Field(default=3, ge=2, description="Folds, grouped by neurite (published: 3).")
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
        default=32, ge=1, description="Chunks in memory at a time for the trivial statistics."
    )
    seed: int = Field(default=0, ge=0, description="Seed of the folds.")


class ReportingConfig(_Config):
    """What the report shows."""

    title: str = Field(default="Synapse representations", description="Heading of the report.")
    probe: Literal["linear", "knn"] = Field(default="linear", description="Probe whose scores make up the evaluation.")
    n_examples: int = Field(default=12, ge=1, le=60, description="Example synapses on the contact sheet.")
    interactive: bool = Field(
        default=False, description="Put an interactive manifold into the report; adds about 5 MB of plotly to the file."
    )
    dpi: int = Field(default=110, ge=50, le=300, description="Resolution of the report's images, dots per inch.")
    seed: int = Field(default=0, ge=0, description="Seed of the choice of examples.")
