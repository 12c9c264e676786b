"""Parameters of the analyses, validated before anything runs."""

from __future__ import annotations

import logging
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from synapseclr.parameters import Parameters
from synapseclr.volumes.synapse_table import QueryValue, SynapseIds

Layer = Literal["encoder.fc", "projector.mlp.0", "projector.mlp.3"]
FilterValue = bool | int | float | str
logger = logging.getLogger(__name__)


class SimilarityConfig(Parameters):
    """Nearest neighbours in feature space, and the queries that are answered and drawn."""

    layer: Layer = Field(default="encoder.fc", description="Recorded layer in which distances are taken.")
    n_neighbours: int = Field(default=7, ge=1, description="Neighbours listed per synapse and query (published: 7).")
    index: Literal["auto", "flat", "hnsw", "ivf", "ivfpq"] = Field(
        default="auto",
        description="flat: exact; hnsw, ivf: approximate, in memory; ivfpq: approximate, in files; auto: flat below "
        "500,000 synapses, ivf below 3 million, ivfpq from there on or where memory is too small.",
    )
    n_listed: int | None = Field(
        default=None,
        ge=1,
        description="Synapses whose neighbours are listed, drawn at random; null: all, or 10,000 with ivfpq.",
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


Kernel = Literal["rbf", "matern32", "matern52", "linear", "rbf+linear"]


class GaussianProcessConfig(Parameters):
    """Gaussian processes: which one, on what, and for how long it is fitted."""

    layer: Layer = Field(default="encoder.fc", description="Recorded layer whose features are the inputs.")
    with_masks: bool = Field(
        default=True, description="Join the statistics of the masks to the features, with the same weight."
    )
    kernel: Kernel = Field(default="rbf+linear", description="Covariance of the latent function (published: rbf).")
    n_components: int = Field(
        default=32,
        ge=1,
        description="Principal components of the standardised features that radial kernels see; at most their rank.",
    )
    n_linear_components: int = Field(
        default=256, ge=1, description="Components that linear kernels, and the linear part of rbf+linear, see."
    )
    method: Literal["auto", "exact", "variational"] = Field(
        default="auto",
        description="auto: exact up to variational_above training synapses (on exact_mean_up_to of them, drawn at "
        "random, if there are more), then stochastic variational inference (SVGP, the published method).",
    )
    fit_on: int = Field(
        default=500,
        ge=10,
        description="Training synapses, drawn at random, that the exact process fits its hyper-parameters on; it is "
        "conditioned on all.",
    )
    exact_up_to: int = Field(
        default=2000,
        ge=1,
        description="Largest training set for exact variances; above, those given n_inducing of the synapses alone.",
    )
    exact_mean_up_to: int = Field(
        default=10_000,
        ge=1,
        description="Training synapses of the exact process; of more, as many are drawn.",
    )
    dirichlet_up_to: int = Field(
        default=500,
        ge=0,
        description="Largest training set of classes whose posterior is that of the regression on Dirichlet targets; "
        "above, exact processes have the logistic likelihood (Laplace's approximation).",
    )
    variational_above: int = Field(
        default=100_000, ge=1, description="Training synapses above which auto takes the variational process."
    )
    n_inducing: int = Field(
        default=1000,
        ge=2,
        description="Inducing points of the variational process (published: 10 to 400).",
    )
    n_iterations: int = Field(
        default=15, ge=1, description="L-BFGS iterations on the marginal likelihood; it stops earlier once flat."
    )
    n_steps: int = Field(default=3000, ge=1, description="Steps of the variational fit (published: 20,001).")
    learning_rate: float = Field(default=0.01, gt=0, description="Of its Adam (published: 0.001).")
    batch_size: int | None = Field(default=2048, ge=1, description="Synapses a step of it; null: all (published).")
    n_seeds: int = Field(
        default=5,
        ge=1,
        description="Repetitions of the folds. All models of all repetitions form the ensemble (published: 5 seeds).",
    )
    balance_classes: bool = Field(
        default=True, description="Give both classes the same total weight in training, whatever their numbers."
    )
    dirichlet_alpha: float = Field(
        default=0.1,
        gt=0,
        description="Prior concentration of the Dirichlet targets that the kernel of classes is fitted on "
        "(Milios et al. 2018: 0.01, better scores here: 0.1).",
    )
    recalibrate: bool = Field(
        default=True,
        description="Correct probabilities and standard deviations by what was held out in the other folds.",
    )
    compare_synapse_folds: bool = Field(
        default=True, description="Also score on folds by synapse, as published; these leak between neurites."
    )
    n_bins: int = Field(default=10, ge=2, description="Bins of the reliability diagram, equally full.")
    condense_from: int = Field(
        default=50_000,
        ge=1,
        description="Synapses from which on the models of a trait are condensed to few matrices: a fraction of the "
        "work, the same means, standard deviations to some per cent (measured: condensation_errors).",
    )
    n_condensed: int = Field(
        default=5_000,
        ge=100,
        description="Drawn synapses on which condensed models are fitted; what they change is measured on a fifth.",
    )

    @model_validator(mode="before")
    @classmethod
    def _former_name(cls, given: Any) -> Any:
        """Read ``inducing_up_to``, as former versions called it, as ``variational_above``."""
        if not isinstance(given, dict) or "inducing_up_to" not in given:
            return given
        logger.warning("gaussian_processes.inducing_up_to is now called variational_above.")
        others = {name: value for name, value in given.items() if name != "inducing_up_to"}
        return others | {"variational_above": given["inducing_up_to"]}

    @field_validator("method", mode="before")
    @classmethod
    def _former_method(cls, value: Any) -> Any:
        """Read ``inducing``, which former versions had, as ``auto``."""
        if value != "inducing":
            return value
        logger.warning(
            "gaussian_processes.method: inducing is gone, 'auto' takes its place: the exact process on "
            "exact_mean_up_to drawn synapses scores as well in a fraction of the time. Write 'auto' in the parameters."
        )
        return "auto"

    @property
    def n_inputs(self) -> int:
        """Principal components that the kernel's inputs hold."""
        if self.kernel == "linear":
            return self.n_linear_components
        return max(self.n_components, self.n_linear_components) if self.kernel == "rbf+linear" else self.n_components


class ImputationConfig(Parameters):
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


class ConsensusConfig(Parameters):
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


class ClusterConfig(Parameters):
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


class AxesConfig(Parameters):
    """Principal axes of clusters, and what changes along them."""

    n_clusters: int = Field(default=2, ge=1, description="Largest clusters whose axes are looked at.")
    n_samples: int = Field(default=8, ge=2, le=24, description="Synapses drawn along an axis.")
    n_bins: int = Field(default=6, ge=2, description="Equally full bins of a trait's profile along an axis.")
    n_draws: int = Field(default=500, ge=50, description="Bootstrap samples, drawn by neurite, of every interval.")


class LeakageConfig(Parameters):
    """The technical check: what features should not know, and how well it can be read off them."""

    n_components: int = Field(default=64, ge=2, description="Principal components given to the probes.")
    n_neighbours: int = Field(default=10, ge=1, description="Neighbours of the k-NN probe.")
    penalties: tuple[float, ...] = Field(
        default=(0.001, 0.01, 0.1, 1.0, 10.0, 100.0),
        min_length=1,
        description="Ridge penalties to choose from, relative to the mean variance of the components.",
    )
    n_folds: int = Field(default=5, ge=2, description="Folds, split by presynaptic neurite.")
    n_permutations: int = Field(default=100, ge=20, description="Permutations of the null, neurite by neurite.")
    block_size_nm: float | None = Field(
        default=None,
        gt=0,
        description="Side of the blocks between which features are compared; null: a third of the volume's extent.",
    )
    max_synapses: int = Field(default=5000, ge=20, description="Synapses measured, drawn at random beyond this number.")
    seed: int = Field(default=0, ge=0, description="Seed of the draw, folds and permutations.")


class ManifoldConfig(Parameters):
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
    n_fitted: int = Field(
        default=100_000,
        ge=10,
        description="Synapses, drawn at random, that UMAP is fitted on where features exceed memory; the others are "
        "placed among them.",
    )
    clusters: ClusterConfig = Field(default_factory=ClusterConfig, description="Clusters in the plane.")
    axes: AxesConfig = Field(default_factory=AxesConfig, description="Principal axes of clusters.")
    leakage: LeakageConfig = Field(default_factory=LeakageConfig, description="The technical check.")


UnsupervisedScore = Literal["mahalanobis", "knn", "lof"]


class OutliersConfig(Parameters):
    """Search for defective synapses, and the synapses that are left out as defective."""

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
    n_reference: int = Field(
        default=100_000,
        ge=2,
        description="Synapses, drawn at random, among which knn and lof search where features exceed memory.",
    )
    n_evaluated: int = Field(
        default=20_000,
        ge=2,
        description="Synapses, drawn at random, on which the detection is measured if there are more.",
    )
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


class OcclusionConfig(Parameters):
    """Parts of synapses that are occluded, and at how many synapses."""

    n_synapses: int = Field(
        default=40, ge=0, description="Synapses whose regions are occluded, as many of every class; 0: none."
    )
    synapses: SynapseIds = Field(
        default=(), description="Synapses to explain instead of drawn ones: 12, [12, 34], or 12+34."
    )
    traits: tuple[str, ...] | None = Field(
        default=None,
        description="Traits whose prediction is followed; null: of those declared, the first two with classes.",
    )
    n_patch_synapses: int = Field(
        default=2, ge=0, description="Of these synapses, those that are also occluded patch by patch (heat maps)."
    )
    n_patches: tuple[int, int, int] = Field(
        default=(8, 8, 4), description="Patches of a chunk along x, y, z; those without a mask are left out."
    )
    n_rotations: int = Field(
        default=2, ge=1, description="Poses, at most those of the embedding; the same for whole and occluded images."
    )
    batch_size: int = Field(default=32, ge=1, description="Chunks embedded at a time.")
    min_annotated: int = Field(
        default=30, ge=4, description="Traits with fewer annotated synapses of other neurites are not followed."
    )
    seed: int = Field(default=0, ge=0, description="Seed of the choice of synapses.")


class FeaturesConfig(Parameters):
    """Correlations, principal components, and traits by cell types."""

    clustered_layer: Layer = Field(default="encoder.fc", description="Recorded layer whose features are clustered.")
    n_feature_clusters: int = Field(default=8, ge=1, description="Clusters that the tree of features is cut into.")
    component_layer: Layer = Field(
        default="encoder.fc",
        description="Recorded layer whose principal components are compared with traits (published: projector).",
    )
    n_components: int = Field(default=8, ge=1, description="Principal components compared with traits.")
    min_annotated: int = Field(
        default=30, ge=4, description="Traits with fewer annotated synapses are listed, not tested."
    )
    significance: float = Field(default=0.05, gt=0, lt=1, description="Level at which a corrected p-value is marked.")
    n_drawn_components: int = Field(default=4, ge=1, description="Components whose low and high synapses are drawn.")
    n_examples: int = Field(default=4, ge=1, le=12, description="Synapses drawn at either end of a component.")
    n_draws: int = Field(default=500, ge=50, description="Bootstrap samples, drawn by neurite, of every interval.")
    n_posteriors: int = Field(default=300, ge=10, description="Synapses per trait in the figure of posteriors.")
    occlusion: OcclusionConfig = Field(
        default_factory=OcclusionConfig, description="Parts of synapses made grey, to see what traits are read off."
    )
    seed: int = Field(default=0, ge=0, description="Seed of bootstrap and draws.")
