"""The plane on which all synapses can be looked at: its projection, its clusters, and the axes through them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from synapseclr.analysis.column_labels import column_label
from synapseclr.analysis.config import AxesConfig, ClusterConfig, ManifoldConfig
from synapseclr.analysis.representations import check_finite
from synapseclr.analysis.traits import TRAITS, Trait, values_by_class
from synapseclr.analysis.traits.calibration import grouped_interval
from synapseclr.analysis.traits.folds import neurite_codes
from synapseclr.errors import SynapseCLRError
from synapseclr.volumes.table_schema import (
    COUNT,
    GROUPED_MEANS,
    KEY,
    NOT_NEGATIVE,
    POSITIVE_COUNT,
    TEXT,
    Column,
    TableSchema,
)

FEWEST_FOR_UMAP = 10
"""Below this number of synapses a neighbour graph says nothing; the first two principal components stand in."""

_SEARCHED_ONCE_FROM = 4096  # below, UMAP takes all distances, which is exact and costs no compilation
CLUSTER_PROFILES = TableSchema(
    "The table of traits per cluster",
    {"cluster": COUNT, "n_synapses": COUNT, "trait": TEXT, "label": TEXT, **GROUPED_MEANS},
)

AXIS_POSITIONS = TableSchema(
    "The table of places along axes",
    {
        "cluster": COUNT,
        "axis": POSITIVE_COUNT,
        "synapse_id": KEY,
        "position": Column(),
        "offset": NOT_NEGATIVE,
        "sample": Column("integer", rule=("ge", {"min_value": -1})),
    },
    key="synapse_id",
)

AXIS_PROFILES = TableSchema(
    "The table of traits along axes",
    {
        "cluster": COUNT,
        "axis": POSITIVE_COUNT,
        "trait": TEXT,
        "label": TEXT,
        "bin": COUNT,
        "position": Column(),
        **GROUPED_MEANS,
    },
)

UNCLUSTERED = -1
_FEWEST_IN_CLUSTER = 5


@dataclass(frozen=True)
class Manifold:
    """Coordinates of the synapses.

    Attributes:
        pca_np: float32 (n, p): principal components; lazy (dask) where the features are.
        umap_n2: float32 (n, 2): coordinates in the plane.
        umap_n3: float32 (n, 3): coordinates in space, fitted on their own; None if not asked for.
        explained_variance_p: float32 (p,): fraction of the variance along each component.
        settings: What was really used, fit for ``AnnData.uns``; ``method`` tells whether a fallback stood in for UMAP.
    """

    pca_np: Any
    umap_n2: np.ndarray
    umap_n3: np.ndarray | None
    explained_variance_p: np.ndarray
    settings: dict[str, Any]


def principal_components(features_nf: np.ndarray, n_components: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Principal components of the centred features.

    Args:
        features_nf: float (n, f).
        n_components: Components wanted; at most ``min(n - 1, f)`` exist and are returned.
        seed: Seed of the randomised solver that large inputs use.

    Returns:
        float32 (n, p) coordinates and float32 (p,) fractions of the variance. Constant features give zeros.
    """
    from sklearn.decomposition import PCA

    n_kept = max(1, min(n_components, len(features_nf) - 1, features_nf.shape[1]))
    if np.ptp(features_nf, axis=0).max() == 0:
        return np.zeros((len(features_nf), n_kept), np.float32), np.zeros(n_kept, np.float32)
    pca = PCA(n_components=n_kept, random_state=seed)
    coordinates_np = pca.fit_transform(features_nf)
    return coordinates_np.astype(np.float32), pca.explained_variance_ratio_.astype(np.float32)


def usable_neighbours(n_neighbours: int, n_synapses: int) -> int:
    """Cap UMAP's neighbours at a third of the synapses (at least 5): beyond, the plane shows no local structure."""
    return min(n_neighbours, max(5, n_synapses // 3), n_synapses - 1)


def fit_manifold(features_nf: np.ndarray, config: ManifoldConfig | None = None) -> Manifold:
    """Project features to the plane.

    Args:
        features_nf: float (n, f).
        config: Settings, as published by default.

    Returns:
        The coordinates. With fewer than ``FEWEST_FOR_UMAP`` synapses, or features that do not differ, the first
        principal components stand in for UMAP (zeros where there are none), and ``settings["method"]`` says so.

    Raises:
        SynapseCLRError: If there are fewer than two synapses or features that are not finite.
    """
    config = config or ManifoldConfig()
    check_enough(len(features_nf))
    check_finite(features_nf, config.layer)
    pca_np, explained_p = principal_components(features_nf, config.n_components, config.random_state or 0)
    settings = manifold_settings(pca_np.shape[1], config)
    projected = fit_planes(pca_np, settings, config)
    return Manifold(pca_np, projected[2], projected.get(3), explained_p, settings)


def check_enough(n_synapses: int) -> None:
    """Refuse to project fewer than two synapses, by a SynapseCLRError."""
    if n_synapses < 2:
        raise SynapseCLRError(f"A manifold needs at least 2 synapses, the embeddings hold {n_synapses}.")


def manifold_settings(n_components: int, config: ManifoldConfig) -> dict[str, Any]:
    """Settings fit for ``AnnData.uns``, but for the method, which :func:`fit_planes` adds."""
    return {
        "layer": config.layer,
        "n_components": int(n_components),
        "min_dist": config.min_dist,
        "n_epochs": config.n_epochs,
        "random_state": "none" if config.random_state is None else config.random_state,
    }


def fit_planes(pca_np: np.ndarray, settings: dict[str, Any], config: ManifoldConfig) -> dict[int, np.ndarray]:
    """Fit UMAP, or take the first components where it cannot be fitted.

    Args:
        pca_np: float32 (n, p): principal components, in memory.
        settings: Gets ``method``, and with UMAP ``n_neighbours``.
        config: Settings.

    Returns:
        float32 (n, d) by number of dimensions d: 2 and, if asked for, 3.
    """
    dimensions = (2, 3) if config.three_dimensions else (2,)
    reason = _no_umap(pca_np)
    if reason is not None:
        settings["method"] = f"pca: {reason}"
        return {d: first_components(pca_np, d) for d in dimensions}
    settings["n_neighbours"] = usable_neighbours(config.n_neighbours, len(pca_np))
    settings["method"] = "umap"
    return _umap(pca_np, settings["n_neighbours"], config, dimensions)


def _no_umap(pca_np: np.ndarray) -> str | None:
    """Reason why UMAP cannot be fitted on these synapses; None if it can."""
    if not np.ptp(pca_np, axis=0).any():
        return "all synapses have the same features, the encoder has collapsed"
    if len(pca_np) < FEWEST_FOR_UMAP:
        return f"{len(pca_np)} synapses, UMAP needs at least {FEWEST_FOR_UMAP}"
    return None


def first_components(pca_np: np.ndarray, n_dimensions: int) -> np.ndarray:
    """First components, float32 (n, d); zeros where there are fewer."""
    coordinates_nd = np.zeros((len(pca_np), n_dimensions), np.float32)
    n_present = min(n_dimensions, pca_np.shape[1])
    coordinates_nd[:, :n_present] = pca_np[:, :n_present]
    return coordinates_nd


def _umap(
    pca_np: np.ndarray, n_neighbours: int, config: ManifoldConfig, dimensions: tuple[int, ...]
) -> dict[int, np.ndarray]:
    """Coordinates by number of dimensions."""
    from rich.progress import track
    from umap import UMAP

    # UMAP falls back to one thread by itself when seeded, and warns about it unless told so.
    n_jobs = -1 if config.random_state is None else 1
    options: dict[str, Any] = {}
    if len(pca_np) >= _SEARCHED_ONCE_FROM:
        options["precomputed_knn"] = _neighbours(pca_np, n_neighbours, config.random_state, n_jobs)
    projected = {}
    for n_dimensions in track(dimensions, description="Projecting synapses (UMAP)"):
        reducer = UMAP(
            n_neighbors=n_neighbours,
            n_components=n_dimensions,
            min_dist=config.min_dist,
            n_epochs=config.n_epochs,
            random_state=config.random_state,
            n_jobs=n_jobs,
            **options,
        )
        projected[n_dimensions] = np.asarray(reducer.fit_transform(pca_np), dtype=np.float32)
    return projected


def _neighbours(pca_np: np.ndarray, n_neighbours: int, random_state: int | None, n_jobs: int) -> Any:
    """Nearest neighbours, for all projections: among many synapses their search is the slow part."""
    from umap.umap_ import nearest_neighbors

    seed = np.random.RandomState(random_state)
    return nearest_neighbors(pca_np, n_neighbours, "euclidean", {}, False, seed, n_jobs=n_jobs)


@dataclass(frozen=True)
class Clusters:
    """Cluster of every synapse.

    Attributes:
        label_n: int64 (n,): 0 is the largest cluster, then by size; -1 lies in none.
        method: ``hdbscan``, or why all synapses are one cluster.
    """

    label_n: np.ndarray
    method: str

    @property
    def n_clusters(self) -> int:
        """Number of clusters."""
        return int(self.label_n.max()) + 1


def find_clusters(coordinates_nd: np.ndarray, config: ClusterConfig | None = None, seed: int = 0) -> Clusters:
    """Find dense regions by HDBSCAN (Campello et al. 2013, doi:10.1007/978-3-642-37456-2_14).

    Args:
        coordinates_nd: float (n, d), such as the plane of UMAP.
        config: Smallest cluster and density.
        seed: Seed of the synapses searched where there are more than ``max_synapses``.

    Returns:
        The clusters. Where there are too few synapses for two clusters, where they all lie in one place, or where no
        region is dense, all synapses make up one cluster, and ``method`` says so.
    """
    config = config or ClusterConfig()
    n_synapses = len(coordinates_nd)
    everything = np.zeros(n_synapses, np.int64)
    smallest = max(_FEWEST_IN_CLUSTER, round(config.min_fraction * min(n_synapses, config.max_synapses)))
    if n_synapses < 2 * smallest:
        return Clusters(everything, f"one cluster: {n_synapses} synapses, two clusters need {2 * smallest}")
    if not np.ptp(coordinates_nd, axis=0).any():
        return Clusters(everything, "one cluster: all synapses lie in the same place")
    searched = np.arange(n_synapses)
    if n_synapses > config.max_synapses:
        searched = np.random.default_rng(seed).choice(n_synapses, config.max_synapses, replace=False)
    found = _hdbscan(coordinates_nd[searched], smallest, min(config.min_samples, len(searched) - 1))
    if found.max() < 0:
        return Clusters(everything, "one cluster: no region is denser than the rest")
    if len(searched) < n_synapses:
        found = _nearest_label(coordinates_nd, searched, found)
    sizes = np.bincount(found[found >= 0])
    rank = np.empty(len(sizes), np.int64)
    rank[np.argsort(-sizes, kind="stable")] = np.arange(len(sizes))
    return Clusters(np.where(found >= 0, rank[found], UNCLUSTERED), "hdbscan")


def _hdbscan(coordinates_nd: np.ndarray, smallest: int, min_samples: int) -> np.ndarray:
    from sklearn.cluster import HDBSCAN

    model = HDBSCAN(min_cluster_size=smallest, min_samples=min_samples, copy=True)
    labels_n: np.ndarray = model.fit_predict(coordinates_nd).astype(np.int64)
    return labels_n


def _nearest_label(coordinates_nd: np.ndarray, searched: np.ndarray, label_s: np.ndarray) -> np.ndarray:
    """Label of the nearest synapse among those that were searched."""
    from scipy.spatial import cKDTree

    nearest_n = cKDTree(coordinates_nd[searched]).query(coordinates_nd)[1]
    labels_n: np.ndarray = label_s[nearest_n]
    return labels_n


_ENDS = (2.0, 98.0)
AXIS_COLUMNS = ("cluster", "axis", "synapse_id", "position", "offset", "sample")
NOT_SAMPLED = -1


@dataclass(frozen=True)
class ManifoldAxis:
    """A principal axis of one cluster.

    Attributes:
        cluster: The cluster's label.
        axis: 1 for the longest, 2 for the one across it.
        rows_m: int64 (m,): rows of the cluster's synapses.
        centre_d: float64 (d,): their mean.
        direction_d: float64 (d,): unit vector; its greatest component is positive.
        position_m: float64 (m,): where each synapse lies along the axis, 0 at the centre.
        offset_m: float64 (m,): its distance from the axis.
        variance_fraction: Share of the cluster's variance in the plane along the axis.
    """

    cluster: int
    axis: int
    rows_m: np.ndarray
    centre_d: np.ndarray
    direction_d: np.ndarray
    position_m: np.ndarray
    offset_m: np.ndarray
    variance_fraction: float


def cluster_axes(coordinates_nd: np.ndarray, clusters: Clusters, n_clusters: int) -> list[ManifoldAxis]:
    """Principal axes of the largest clusters.

    Args:
        coordinates_nd: float (n, d): the plane.
        clusters: Which synapse is in which.
        n_clusters: Largest clusters wanted.

    Returns:
        As many axes per cluster as it has extent in, the longest first. A cluster of one place has none.

    Source: as published, the principal axes of the UMAP coordinates of one cluster.
    """
    axes = []
    for cluster in range(min(n_clusters, clusters.n_clusters)):
        rows_m = np.flatnonzero(clusters.label_n == cluster)
        points_md = np.asarray(coordinates_nd[rows_m], dtype=np.float64)
        centre_d = points_md.mean(axis=0)
        _, values, directions = np.linalg.svd(points_md - centre_d, full_matrices=False)
        for number, (value, direction_d) in enumerate(zip(values, directions, strict=True), start=1):
            if value <= 1e-6 * max(values[0], 1e-300) or value == 0:
                continue
            if direction_d[np.argmax(np.abs(direction_d))] < 0:
                direction_d = -direction_d
            position_m = (points_md - centre_d) @ direction_d
            across_md = points_md - centre_d - np.outer(position_m, direction_d)
            share = float(value**2 / np.square(values).sum())
            offset_m = np.linalg.norm(across_md, axis=1)
            axes.append(ManifoldAxis(cluster, number, rows_m, centre_d, direction_d, position_m, offset_m, share))
    return axes


def sample_along(axis: ManifoldAxis, n_samples: int) -> np.ndarray:
    """Choose synapses at equal steps along an axis, each the nearest to the axis itself.

    Args:
        axis: The axis.
        n_samples: Synapses wanted; all of the cluster's, in order, if it has fewer.

    Returns:
        int64 (k,): positions into ``axis.rows_m``, each once, from the axis' lower end to its upper one (percentiles 2
        to 98).
    """
    n_samples = min(n_samples, len(axis.rows_m))
    low, high = np.percentile(axis.position_m, _ENDS)
    chosen: list[int] = []
    for step in np.linspace(low, high, n_samples):
        squared_m = np.square(axis.position_m - step) + np.square(axis.offset_m)
        squared_m[chosen] = np.inf
        chosen.append(int(np.argmin(squared_m)))
    order = np.argsort(axis.position_m[chosen], kind="stable")
    return np.array(chosen, dtype=np.int64)[order]


def axis_position_table(
    axes: Sequence[ManifoldAxis], synapse_id: np.ndarray, n_samples: int, is_listed_n: np.ndarray | None = None
) -> pd.DataFrame:
    """List where every synapse lies along the axes of its cluster.

    Args:
        axes: From :func:`cluster_axes`.
        synapse_id: int64 (n,): ids of all rows.
        n_samples: Synapses to sample along each axis.
        is_listed_n: bool (n,): rows that are listed beside those sampled; None: all.

    Returns:
        One row per axis and synapse: ``cluster``, ``axis``, ``synapse_id``, ``position`` and ``offset`` in the plane's
        units, ``sample`` (0, 1, ... for those sampled along the axis, -1 for the others).
    """
    tables = []
    for axis in axes:
        sample_m = np.full(len(axis.rows_m), NOT_SAMPLED, np.int64)
        chosen = sample_along(axis, n_samples)
        sample_m[chosen] = np.arange(len(chosen))
        columns = (synapse_id[axis.rows_m], axis.position_m, axis.offset_m, sample_m)
        if is_listed_n is not None:
            kept = np.flatnonzero((sample_m != NOT_SAMPLED) | is_listed_n[axis.rows_m])
            columns = tuple(values_m[kept] for values_m in columns)  # type: ignore[assignment]
        tables.append(pd.DataFrame(dict(zip(AXIS_COLUMNS, (axis.cluster, axis.axis, *columns), strict=True))))
    if not tables:
        return pd.DataFrame({name: pd.Series(dtype="int64") for name in AXIS_COLUMNS})
    return pd.concat(tables, ignore_index=True)


_MEASURES = ("n", "n_neurites", "mean", "lower_90", "upper_90")
CLUSTER_PROFILE_COLUMNS = ("cluster", "n_synapses", "trait", "label", *_MEASURES)
AXIS_PROFILE_COLUMNS = ("cluster", "axis", "trait", "label", "bin", "position", *_MEASURES)


def profiled_values(
    obs: pd.DataFrame, traits: Sequence[Trait] = TRAITS
) -> Iterator[tuple[str, str, np.ndarray, np.ndarray]]:
    """Annotated traits, and the volume of the cleft's mask, which every chunk has.

    Yields:
        Name, label, values float64 (n,) with NaN where unknown, and the neurite of each, int64 (n,).
    """
    for trait, values_n in values_by_class(obs, traits):
        if np.isfinite(values_n).any():
            yield trait.name, trait.label, values_n, neurite_codes(obs, trait.group)
    if "synaptic_cleft_volume" in obs:
        volume_n = obs["synaptic_cleft_volume"].to_numpy(dtype=float)
        logarithm_n = np.log10(np.where(volume_n > 0, volume_n, np.nan))
        name = "log10_cleft_volume"
        yield name, column_label(name).name, logarithm_n, neurite_codes(obs, "pre_root_id")


def cluster_profiles(
    obs: pd.DataFrame, clusters: Clusters, config: AxesConfig | None = None, traits: Sequence[Trait] = TRAITS
) -> pd.DataFrame:
    """Mean of every annotated trait in every cluster.

    Args:
        obs: One row per synapse: annotations and metadata.
        clusters: Which synapse is in which; those in none are left out.
        config: Number of bootstrap samples.
        traits: Traits to profile.

    Returns:
        One row per cluster and trait: ``n`` synapses with a value, ``mean``, and its 90 % interval by the bootstrap
        over neurites.
    """
    config = config or AxesConfig()
    rows = []
    for name, label, values_n, neurite_n in profiled_values(obs, traits):
        for cluster in range(clusters.n_clusters):
            is_inside_n = clusters.label_n == cluster
            measures = _mean_with_interval(values_n[is_inside_n], neurite_n[is_inside_n], config.n_draws)
            if measures is not None:
                rows.append((cluster, int(is_inside_n.sum()), name, label, *measures))
    table = pd.DataFrame(rows, columns=list(CLUSTER_PROFILE_COLUMNS))
    return table.sort_values("cluster", kind="stable", ignore_index=True)


def axis_profiles(
    axes: Sequence[ManifoldAxis],
    obs: pd.DataFrame,
    config: AxesConfig | None = None,
    traits: Sequence[Trait] = TRAITS,
) -> pd.DataFrame:
    """Mean of every annotated trait along every axis.

    Args:
        axes: From :func:`synapseclr.analysis.manifold.cluster_axes`.
        obs: One row per synapse: annotations and metadata.
        config: Bins and bootstrap samples.
        traits: Traits to profile.

    Returns:
        One row per axis, trait and bin (equally full of synapses with a value, at most a third of them): ``position``,
        the bin's mean place along the axis; ``n``; ``mean`` with its 90 % interval by the bootstrap over neurites.
    """
    config = config or AxesConfig()
    rows = []
    for name, label, values_n, neurite_n in profiled_values(obs, traits):
        for axis in axes:
            known_k = np.flatnonzero(np.isfinite(values_n[axis.rows_m]))
            if not len(known_k):
                continue
            ordered_k = known_k[np.argsort(axis.position_m[known_k], kind="stable")]
            bins = np.array_split(ordered_k, max(1, min(config.n_bins, len(ordered_k) // 3)))
            for number, members in enumerate(bins):
                chosen = axis.rows_m[members]
                measures = _mean_with_interval(values_n[chosen], neurite_n[chosen], config.n_draws)
                assert measures is not None  # every bin holds synapses with a value
                position = float(axis.position_m[members].mean())
                rows.append((axis.cluster, axis.axis, name, label, number, position, *measures))
    table = pd.DataFrame(rows, columns=list(AXIS_PROFILE_COLUMNS))
    return table.sort_values(["cluster", "axis"], kind="stable", ignore_index=True)


def _mean_with_interval(
    values_m: np.ndarray, neurite_m: np.ndarray, n_draws: int
) -> tuple[int, int, float, float, float] | None:
    """Number of synapses and neurites, mean, and ends of its interval; None without values."""
    is_known_m = np.isfinite(values_m)
    if not is_known_m.any():
        return None
    known, neurites = values_m[is_known_m], neurite_m[is_known_m]
    lower, upper = grouped_interval(known, neurites, n_draws=n_draws)
    return len(known), len(np.unique(neurites)), float(known.mean()), lower, upper
