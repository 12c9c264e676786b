"""Nodes of the manifold pipeline."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from synapseclr.analysis.config import ManifoldConfig
from synapseclr.analysis.feature_rows import FeatureRows
from synapseclr.analysis.handcrafted import cleft_orientations
from synapseclr.analysis.leakage_scores import EFFECT_LABELS, leakage_metrics, measure_leakage
from synapseclr.analysis.manifold import (
    UNCLUSTERED,
    Clusters,
    ManifoldAxis,
    axis_position_table,
    axis_profiles,
    cluster_axes,
    cluster_profiles,
    find_clusters,
    fit_manifold,
)
from synapseclr.analysis.manifold_blocks import fit_manifold_in_blocks
from synapseclr.analysis.representations import (
    BACKBONE,
    check_finite,
    layer_array,
    layer_features,
    recorded_arrays,
    recorded_layers,
)
from synapseclr.analysis.row_blocks import HERE, RowBlocksConfig, sample_rows
from synapseclr.analysis.traits import Traits, trait_values
from synapseclr.analysis.traits.passed_over import passed_over
from synapseclr.pipelines import AnnData, ChunkStore, Drawing, Figure, PlotlyFigure
from synapseclr.plotting.manifold import (
    DrawnAxis,
    axis_profile_panels,
    cluster_map,
    collect_overlays,
    interactive_scatter,
    leakage_panel,
    orientation_overlays,
    scatter_panels,
)
from synapseclr.plotting.report import Picture, ReportingConfig, Section, Table, embedding_digests, pipeline_section
from synapseclr.plotting.sections import read_slabs, section_rows
from synapseclr.plotting.theme import representation_labels, representation_style
from synapseclr.storage.sharded_anndata import is_lazy
from synapseclr.volumes.synapse_table import SynapseRows, aligned_rows

logger = logging.getLogger(__name__)

_NO_CLUSTER = "none"
_MEASURABLE = "It takes positions and cleft orientations of synapses on several neurites; nothing else depends on it."
_MOST_INTERACTIVE = 10_000
_MOST_DRAWN = 200_000  # where features exceed memory; more points would hide each other
_MOST_ANNOTATED, _MOST_ANNOTATED_INTERACTIVE = 20_000, 5_000  # drawn beside these


def project_synapses(
    synapse_embeddings: AnnData, config: ManifoldConfig, row_blocks: RowBlocksConfig = HERE
) -> AnnData:
    """Add the plane, and the cluster that each synapse belongs to, to the embeddings.

    Args:
        synapse_embeddings: Synapses by features.
        config: The parameters ``manifold``.
        row_blocks: The parameters ``row_blocks``, where features exceed memory.

    Returns:
        AnnData with the chosen layer as ``X``; ``obs`` with a column ``cluster`` (categories ``0``, ``1``, ... by size,
        and ``none``); coordinates in ``obsm["X_pca"]``, ``obsm["X_umap"]`` and, if asked for, ``obsm["X_umap_3d"]``;
        where features exceed memory ``X`` and ``X_pca`` are lazy, and written shard by shard when saved; what was
        really used in ``uns["manifold"]``.
    """
    from anndata import AnnData

    features_nf = layer_array(synapse_embeddings, config.layer)
    if is_lazy(features_nf):
        manifold = fit_manifold_in_blocks(features_nf, config, row_blocks)
    else:
        features_nf = layer_features(synapse_embeddings, config.layer)
        manifold = fit_manifold(features_nf, config)
    if manifold.settings["method"] != "umap":
        logger.warning("The manifold shows principal components instead of UMAP (%s).", manifold.settings["method"])
    clusters = find_clusters(manifold.umap_n2, config.clusters, config.random_state or 0)
    if clusters.method != "hdbscan":
        logger.warning("The manifold has %s.", clusters.method)
    uns = dict(synapse_embeddings.uns)
    uns["manifold"] = manifold.settings | {
        "explained_variance_ratio": manifold.explained_variance_p,
        "clusters": clusters.method,
        "n_clusters": clusters.n_clusters,
    }
    obs = synapse_embeddings.obs.copy(deep=False)
    codes_n = np.where(clusters.label_n == UNCLUSTERED, clusters.n_clusters, clusters.label_n)
    categories = [*map(str, range(clusters.n_clusters)), _NO_CLUSTER]
    obs["cluster"] = pd.Categorical.from_codes(codes_n.astype(np.int64), categories=pd.Index(categories))
    obsm = {"X_pca": manifold.pca_np, "X_umap": manifold.umap_n2}
    if manifold.umap_n3 is not None:
        obsm["X_umap_3d"] = manifold.umap_n3
    return AnnData(X=features_nf, obs=obs, obsm=obsm, uns=uns)


def describe_clusters(
    synapse_manifold: AnnData, config: ManifoldConfig, traits: Traits
) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Describe the synapses of each cluster, and what changes along the axes of the largest ones.

    Returns:
        Traits per cluster; the place of every synapse along the axes, where features exceed memory that of
        ``n_fitted`` drawn ones and those sampled along the axes; traits along the axes.
    """
    obs = synapse_manifold.obs
    axes = axes_of(synapse_manifold, config)
    is_listed_n = None
    if is_lazy(synapse_manifold.X):
        is_listed_n = np.zeros(len(obs), bool)
        is_listed_n[sample_rows(len(obs), config.n_fitted, config.random_state or 0)] = True
    positions = axis_position_table(axes, obs["synapse_id"].to_numpy(), config.axes.n_samples, is_listed_n)
    return (
        cluster_profiles(obs, clusters_of(synapse_manifold), config.axes, traits),
        positions,
        axis_profiles(axes, obs, config.axes, traits),
    )


def clusters_of(synapse_manifold: AnnData) -> Clusters:
    """The clusters that were found."""
    found = pd.Categorical(synapse_manifold.obs["cluster"])
    labels = [UNCLUSTERED if name == _NO_CLUSTER else int(name) for name in found.categories]
    return Clusters(np.array(labels, dtype=np.int64)[found.codes], str(synapse_manifold.uns["manifold"]["clusters"]))


def axes_of(synapse_manifold: AnnData, config: ManifoldConfig) -> list[ManifoldAxis]:
    """The axes of the largest clusters."""
    return cluster_axes(plane_of(synapse_manifold), clusters_of(synapse_manifold), config.axes.n_clusters)


def plane_of(synapse_manifold: AnnData) -> np.ndarray:
    """The plane in memory, float32 (n, 2)."""
    return np.asarray(synapse_manifold.obsm["X_umap"])


def drawn_rows(synapse_manifold: AnnData) -> np.ndarray | slice:
    """Rows of the synapses that are drawn as points: all, or where features exceed memory 200,000 at random."""
    if not is_lazy(synapse_manifold.X):
        return slice(None)
    return sample_rows(synapse_manifold.n_obs, _MOST_DRAWN, 0)


def axis_name(synapse_manifold: AnnData) -> str:
    """Name of the plane's axes: UMAP, or PC where principal components stand in for it."""
    return "UMAP" if synapse_manifold.uns["manifold"]["method"] == "umap" else "PC"


def orient_clefts(synapse_embeddings: AnnData, synapse_chunks: ChunkStore, config: ManifoldConfig) -> pd.DataFrame:
    """Fit the plane of every cleft; of many synapses, of ``leakage.max_synapses`` drawn at random."""
    synapse_id = synapse_embeddings.obs["synapse_id"].to_numpy()
    return cleft_orientations(synapse_chunks, synapse_id, config.leakage.max_synapses, config.leakage.seed)


def check_leakage(
    synapse_embeddings: AnnData, random_embeddings: AnnData, synapse_orientations: pd.DataFrame, config: ManifoldConfig
) -> tuple[pd.DataFrame, dict[str, float]]:
    """Measure how well orientation, position, section and block can be read off the features.

    Returns:
        Scores with their null, and the scores as metrics.
    """
    obs = synapse_embeddings.obs
    random_id = random_embeddings.obs["synapse_id"].to_numpy()
    if is_lazy(synapse_embeddings.X) or is_lazy(random_embeddings.X):
        # Others are not measured; read one by one, the few thousand need no pass over all blocks.
        rows_k = np.flatnonzero(obs["synapse_id"].isin(synapse_orientations["synapse_id"]))
        obs = obs.iloc[rows_k]
        random_rows = aligned_rows(obs["synapse_id"].to_numpy(), random_id, "random.synapse_embeddings")
        arrays = recorded_arrays(synapse_embeddings)
        representations = {
            "synapseclr": {layer: FeatureRows(features_nf)[rows_k] for layer, features_nf in arrays.items()},
            "random": {BACKBONE: FeatureRows(layer_array(random_embeddings))[random_rows]},
        }
        for layers in representations.values():
            for layer, features_kf in layers.items():
                check_finite(features_kf, layer)
    else:
        random_rows = aligned_rows(obs["synapse_id"].to_numpy(), random_id, "random.synapse_embeddings")
        representations = {
            "synapseclr": recorded_layers(synapse_embeddings),
            "random": {BACKBONE: layer_features(random_embeddings)[random_rows]},
        }
    scores = measure_leakage(representations, obs, synapse_orientations, config.leakage)
    reasons = scores[["effect", "reason"]].dropna().itertuples(index=False, name=None)
    for sentence in passed_over(reasons, "not measured", _MEASURABLE, "effect", "effects"):
        logger.warning(sentence)
    return scores, leakage_metrics(scores)


def draw_overlays(synapse_manifold: AnnData, traits: Traits) -> Figure:
    """Draw the plane once per trait; of many synapses some at random, and those that are annotated."""
    rows = drawn_rows(synapse_manifold)
    if is_sample := isinstance(rows, np.ndarray):
        rows = _with_annotated(rows, _annotated_rows(synapse_manifold.obs, traits), _MOST_ANNOTATED)
    overlays = collect_overlays(synapse_manifold.obs.iloc[rows], traits)
    name = axis_name(synapse_manifold)
    return scatter_panels(plane_of(synapse_manifold)[rows], overlays, axis_name=name, is_sample=is_sample)


def _annotated_rows(obs: pd.DataFrame, traits: Traits) -> np.ndarray:
    """Rows of the synapses of which any trait is annotated."""
    is_annotated_n = np.zeros(len(obs), dtype=bool)
    for trait in traits:
        is_annotated_n |= np.isfinite(trait_values(obs, trait))
    return np.flatnonzero(is_annotated_n)


def _with_annotated(rows: np.ndarray, annotated: np.ndarray, most: int) -> np.ndarray:
    """Rows drawn at random, few of which may be annotated, and annotated ones: all, or as many at random."""
    return np.union1d(rows, annotated[sample_rows(len(annotated), most, 0)])


def draw_orientation(synapse_manifold: AnnData, synapse_orientations: pd.DataFrame) -> Figure:
    """Draw the plane coloured by the cleft's orientation, which should not show."""
    rows = drawn_rows(synapse_manifold)
    if is_sample := isinstance(rows, np.ndarray):
        present = SynapseRows(synapse_manifold.obs["synapse_id"].to_numpy())
        oriented = present.rows(synapse_orientations["synapse_id"].to_numpy())
        rows = _with_annotated(rows, oriented[oriented >= 0], _MOST_ANNOTATED)
    overlays = orientation_overlays(synapse_manifold.obs.iloc[rows], synapse_orientations)
    name = axis_name(synapse_manifold)
    return scatter_panels(plane_of(synapse_manifold)[rows], overlays, axis_name=name, is_sample=is_sample)


def draw_interactive(synapse_manifold: AnnData, traits: Traits) -> PlotlyFigure:
    """Draw the plane to zoom and hover in; of many synapses, 10,000 at random and 5,000 annotated ones at most."""
    return _interactive(synapse_manifold, "X_umap", traits)


def draw_interactive_3d(synapse_manifold: AnnData, traits: Traits) -> PlotlyFigure:
    """Draw the projection to space; the plane if there is none."""
    coordinates = "X_umap_3d" if "X_umap_3d" in synapse_manifold.obsm else "X_umap"
    return _interactive(synapse_manifold, coordinates, traits)


def _interactive(synapse_manifold: AnnData, coordinates: str, traits: Traits) -> PlotlyFigure:
    rows = np.arange(synapse_manifold.n_obs)
    if len(rows) > _MOST_INTERACTIVE:
        rows = np.sort(np.random.default_rng(0).choice(rows, _MOST_INTERACTIVE, replace=False))
        rows = _with_annotated(rows, _annotated_rows(synapse_manifold.obs, traits), _MOST_ANNOTATED_INTERACTIVE)
    obs = synapse_manifold.obs.iloc[rows]
    return interactive_scatter(
        np.asarray(synapse_manifold.obsm[coordinates])[rows],
        collect_overlays(obs, traits),
        obs["synapse_id"].to_numpy(),
        axis_name=axis_name(synapse_manifold),
    )


def draw_clusters(synapse_manifold: AnnData, axis_positions: pd.DataFrame, config: ManifoldConfig) -> Figure:
    """Draw the clusters with their axes and the synapses sampled along these."""
    coordinates_n2 = plane_of(synapse_manifold)
    row_of = pd.Series(np.arange(synapse_manifold.n_obs), index=synapse_manifold.obs["synapse_id"].to_numpy())
    drawn = []
    for axis in axes_of(synapse_manifold, config):
        ends_2 = np.percentile(axis.position_m, [2, 98])
        sampled = _sampled(axis_positions, axis.cluster, axis.axis)
        drawn.append(
            DrawnAxis(
                f"axis {axis.axis}",
                axis.centre_d + ends_2[:, None] * axis.direction_d,
                coordinates_n2[row_of.loc[sampled["synapse_id"]].to_numpy()],
            )
        )
    rows = drawn_rows(synapse_manifold)
    labels_n = clusters_of(synapse_manifold).label_n
    return cluster_map(coordinates_n2[rows], labels_n[rows], drawn, axis_name(synapse_manifold))


def draw_axis_strip(axis_positions: pd.DataFrame, synapse_chunks: ChunkStore) -> Figure:
    """Draw the synapses sampled along every axis, from its lower end to its upper one."""
    slabs, labels, titles, synapse_ids = [], [], [], []
    axes = axis_positions[["cluster", "axis"]].drop_duplicates().sort_values(["cluster", "axis"])
    for cluster, number in axes.itertuples(index=False):
        sampled = _sampled(axis_positions, cluster, number)
        slabs.append(read_slabs(synapse_chunks, sampled["synapse_id"].to_numpy()))
        synapse_ids.append(sampled["synapse_id"].tolist())
        labels.append(f"cluster {cluster}\naxis {number}")
        pairs = zip(sampled["synapse_id"], sampled["position"], strict=True)
        titles.append([f"{identifier}\nat {position:.2f}" for identifier, position in pairs])
    return section_rows(slabs, labels, titles, synapse_chunks.voxel_size_nm, synapse_id_rk=synapse_ids)


def _sampled(axis_positions: pd.DataFrame, cluster: int, number: int) -> pd.DataFrame:
    of_axis = axis_positions[(axis_positions["cluster"] == cluster) & (axis_positions["axis"] == number)]
    return of_axis[of_axis["sample"] >= 0].sort_values("sample")


def draw_axis_profiles(axis_profiles: pd.DataFrame, traits: Traits) -> Figure:
    """Draw how traits change along the axes."""
    return axis_profile_panels(axis_profiles, traits)


def draw_leakage(leakage_scores: pd.DataFrame, provenance: Mapping[str, Any] | None = None) -> Figure:
    """Draw the technical effects in the backbone's features; their provenance says what these are called."""
    backbone = leakage_scores[leakage_scores["layer"] == BACKBONE]
    names = list(dict.fromkeys(backbone["representation"]))
    return leakage_panel(backbone, EFFECT_LABELS, representation_style(names, representation_labels(provenance)))


def describe_manifold(
    synapse_manifold: AnnData,
    manifold_overlays: Drawing,
    manifold_clusters: Drawing,
    manifold_axis_strip: Drawing,
    manifold_axis_profiles: Drawing,
    manifold_scatter: PlotlyFigure,
    leakage_scores: pd.DataFrame,
    leakage_figure: Drawing,
    manifold_orientation: Drawing,
    config: ReportingConfig,
) -> dict[str, Any]:
    """Write the report's sections on the plane with its clusters, and on technical effects in features."""
    figures = (manifold_overlays, manifold_clusters, manifold_axis_strip, manifold_axis_profiles)
    scatter = manifold_scatter if config.interactive else None
    provenance = synapse_manifold.uns.get("provenance", {})
    return pipeline_section(
        [
            describe_plane(synapse_manifold, *figures, scatter),
            describe_leakage(leakage_scores, leakage_figure, manifold_orientation, provenance),
        ],
        config,
        made_from=embedding_digests(provenance),
    )


def describe_plane(
    synapse_manifold: AnnData,
    overlays: Drawing,
    clusters: Drawing,
    axis_strip: Drawing,
    axis_profiles: Drawing,
    scatter: PlotlyFigure | None,
) -> Section:
    """Show the plane, coloured by every trait that is annotated; its clusters, and what changes along their axes."""
    settings = synapse_manifold.uns["manifold"]
    is_all = len(synapse_manifold.obs.iloc[drawn_rows(synapse_manifold)]) == synapse_manifold.n_obs
    caption = (
        "Every point is a synapse. Grey: not annotated, or the trait does not apply. Colours span percentiles 2 to 98."
    )
    if not is_all:
        caption += f" Drawn are {_MOST_DRAWN:,} at random, and the annotated ones, {_MOST_ANNOTATED:,} at most."
    if axis_name(synapse_manifold) == "UMAP":
        text = (
            f"UMAP of the first {settings['n_components']} principal components of {settings['layer']} "
            f"({settings['n_neighbours']} neighbours, minimal distance {settings['min_dist']}). Distances between far "
            "clusters mean little."
        )
        if settings.get("n_fitted", synapse_manifold.n_obs) < synapse_manifold.n_obs:
            text += (
                f" It was fitted on {settings['n_fitted']:,} of the {synapse_manifold.n_obs:,} synapses, drawn at "
                "random; every other one lies at the weighted mean of its nearest neighbours among these."
            )
    else:
        text = f"The first two principal components stand in for UMAP ({settings['method']})."
    if settings["clusters"] == "hdbscan":
        of_clusters = (
            f"HDBSCAN finds {settings['n_clusters']} clusters in the plane. They depend on its settings as much as on "
            "the data: take them for regions to look at, not for kinds of synapses."
        )
    else:
        of_clusters = f"There are no clusters ({settings['clusters']})."
    pictures = [
        Picture(overlays, caption),
        Picture(
            clusters,
            "Clusters by size, principal axes of the largest ones, and the synapses sampled along these (rings).",
        ),
        Picture(
            axis_strip,
            "Synapses at equal steps along each axis, each the nearest to it; the place along the axis in UMAP units.",
        ),
        Picture(
            axis_profiles,
            "Means in equally full bins along each axis, with 90 % intervals by the bootstrap over neurites.",
        ),
    ]
    return Section("Manifold", [text, of_clusters], pictures, interactive=scatter)


def describe_leakage(
    leakage_scores: pd.DataFrame,
    leakage_figure: Drawing,
    orientation: Drawing,
    provenance: Mapping[str, Any] | None = None,
) -> Section:
    """Say what features should not know, and how well it can be read off them."""
    text = (
        "The cleft's orientation is an accident of how the tissue was cut, and so is the place in the volume, apart "
        "from the neurites there. What features know of it they have not learned to ignore: an encoder that was "
        "trained without rotations knows most of the cleft's angle to the sections "
        "(docs/analysis/manifold.md)."
    )
    pictures = [
        Picture(
            leakage_figure,
            "Explained fraction of the variance on held-out neurites; for section and block the share of the features' "
            "variance between them beyond chance. Grey: what permutations of whole neurites give, mean to 95 %.",
        ),
        Picture(
            orientation,
            "The cleft's angle to the sections (0: face on, 90: cut across) and its normal's direction within them. "
            "Regions of one colour would be shaped by orientation.",
        ),
    ]
    backbone, labels = leakage_scores[leakage_scores["layer"] == BACKBONE], representation_labels(provenance)
    rows = [
        [
            EFFECT_LABELS[str(row["effect"])],
            f"{labels.get(str(row['representation']), row['representation'])}, {row['probe']}",
            *(f"{row[name]:.3f}" for name in ("score", "null_upper_95", "p_value")),
        ]
        if np.isfinite(row["score"])
        else [EFFECT_LABELS[str(row["effect"])], str(row["reason"]), "", "", ""]
        for row in backbone.to_dict("records")
    ]
    columns = ("effect", "features, probe", "score", "95 % of permutations", "p")
    table = Table(columns, rows, "Scores of the backbone's features", is_folded=True, has_numbers=True)
    return Section("Technical check", [text], pictures, [table], part="appendix")
