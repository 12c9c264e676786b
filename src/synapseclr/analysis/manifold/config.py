"""Parameters of the manifold, its clusters and axes, and of the technical check."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from synapseclr.analysis.config import Layer


class _Config(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ClusterConfig(_Config):
    """Clusters of synapses in the plane, by HDBSCAN."""

    min_fraction: float = Field(
        default=0.05, gt=0, le=0.5, description="Smallest cluster, as a share of all synapses; at least 5 synapses."
    )
    min_samples: int = Field(
        default=5, ge=1, description="Neighbours that make a synapse part of a dense region; more: fewer clusters."
    )
    max_synapses: int = Field(
        default=20_000,
        ge=10,
        description="Beyond this number clusters are found on a random part; the others join their nearest synapse's.",
    )


class AxesConfig(_Config):
    """Principal axes of clusters, and what changes along them."""

    n_clusters: int = Field(default=2, ge=1, description="Largest clusters whose axes are looked at.")
    n_samples: int = Field(default=8, ge=2, le=24, description="Synapses drawn along an axis.")
    n_bins: int = Field(default=6, ge=2, description="Equally full bins of a trait's profile along an axis.")
    n_draws: int = Field(default=500, ge=50, description="Bootstrap samples, drawn by neurite, of every interval.")


class LeakageConfig(_Config):
    """The technical check: what features should not know, and how well it can be read off them."""

    n_components: int = Field(default=64, ge=2, description="Principal components given to the probes.")
    n_neighbours: int = Field(default=10, ge=1, description="Neighbours of the k-NN probe.")
    penalties: tuple[float, ...] = Field(
        default=(0.001, 0.01, 0.1, 1.0, 10.0, 100.0),
        min_length=1,
        description="Ridge penalties to choose from, relative to the mean variance of the components.",
    )
    n_folds: int = Field(default=5, ge=2, description="Folds, which no presynaptic neurite crosses.")
    n_permutations: int = Field(default=100, ge=20, description="Permutations of the null, neurite by neurite.")
    block_size_nm: float | None = Field(
        default=None,
        gt=0,
        description="Side of the blocks between which features are compared; null: a third of the volume's extent.",
    )
    max_synapses: int = Field(default=5000, ge=20, description="Synapses measured, drawn at random beyond this number.")
    seed: int = Field(default=0, ge=0, description="Seed of the draw, folds and permutations.")


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
    three_dimensions: bool = Field(default=True, description="Also project to three dimensions.")
    clusters: ClusterConfig = Field(default_factory=ClusterConfig, description="Clusters in the plane.")
    axes: AxesConfig = Field(default_factory=AxesConfig, description="Principal axes of clusters.")
    leakage: LeakageConfig = Field(default_factory=LeakageConfig, description="The technical check.")
