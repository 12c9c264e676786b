"""Nodes of the similarity pipeline."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import numpy as np
import pandas as pd

from synapseclr.analysis.config import SimilarityConfig
from synapseclr.analysis.disk_index import DiskIndex, layer_as_stored, open_index
from synapseclr.analysis.neuroglancer import NeuroglancerConfig
from synapseclr.analysis.search import (
    APPROXIMATE,
    FeatureIndex,
    IndexKind,
    distance_histograms,
    eligible_rows,
    make_queries,
    measure_recall,
    neighbour_table,
    result_table,
)
from synapseclr.models import EncoderWeights
from synapseclr.pipelines import AnnData, ChunkStore, Drawing, Figure
from synapseclr.plotting.report import Picture, ReportingConfig, Section, Table, embedding_digests, pipeline_section
from synapseclr.plotting.searches import distance_panels, neighbour_strips
from synapseclr.plotting.sections import best_slab, read_slabs
from synapseclr.training import PretrainingConfig
from synapseclr.volumes import PUBLISHED_TRAITS, Traits
from synapseclr.volumes.imported_chunks import QueryChunks

_SHOWN_EXAMPLES = 4
_MEASURE_ALL_BELOW = 50_000
_LISTED_ON_DISK = 10_000


def index_features(
    synapse_embeddings: AnnData, feature_index_folder: str, config: SimilarityConfig
) -> FeatureIndex | DiskIndex:
    """Make the index of all synapses, once for all nodes that search.

    Args:
        synapse_embeddings: Synapses by features, in memory or lazy.
        feature_index_folder: Folder of an index in files; one that is there already is used.
        config: The parameters ``similarity``.
    """
    features = layer_as_stored(synapse_embeddings, config.layer)
    return open_index(features, config.index, feature_index_folder, config.layer)


def embed_query(
    query_chunks: QueryChunks,
    query_encoder: Callable[[], EncoderWeights],
    synapse_embeddings: AnnData,
    synapse_chunks: ChunkStore,
    pretraining: PretrainingConfig,
    config: SimilarityConfig,
) -> dict[str, np.ndarray]:
    """Embed external chunks as the synapses were embedded: by the same encoder, with the same extraction.

    Args:
        query_chunks: The chunks; mostly none, and then no weights are read.
        query_encoder: Reads the encoder's weights.
        synapse_embeddings: Their provenance says how the synapses were embedded.
        synapse_chunks: The size of their chunks.
        pretraining: The augmentation, where the provenance does not have it.
        config: The parameters ``similarity``: the layer.

    Returns:
        Features float32 (f,) by name of the chunk.
    """
    if not len(query_chunks):
        return {}
    from synapseclr.training.extraction import embed_alike

    query_chunks.check_size(synapse_chunks.chunk_size_vx)
    provenance = synapse_embeddings.uns.get("provenance", {})
    layers = embed_alike(query_encoder, provenance, [query_chunks.chunk_qcxyz], synapse_chunks, pretraining)
    return dict(zip(query_chunks.names, layers[config.layer], strict=True))


def find_neighbours(
    synapse_embeddings: AnnData,
    feature_index: FeatureIndex,
    query_features: dict[str, np.ndarray],
    config: SimilarityConfig,
) -> pd.DataFrame:
    """List the nearest neighbours of every synapse.

    Args:
        synapse_embeddings: Synapses by features.
        feature_index: Their index.
        query_features: Features of external chunks, if the query is by these.
        config: The parameters ``similarity``.

    Returns:
        ``synapse_id``, ``rank``, ``neighbour_synapse_id``, ``distance``, and ``is_drawn``: whether the synapse is an
        example of one of the queries. Of an index in files, 10,000 synapses and the examples are listed unless the
        parameters say otherwise.
    """
    synapse_id = synapse_embeddings.obs["synapse_id"].to_numpy()
    queries = make_queries(feature_index.features_nf, synapse_id, config, query_features)
    examples = np.concatenate([query.rows_e for query in queries])
    listed_q = np.arange(len(feature_index))
    n_listed = config.n_listed or (_LISTED_ON_DISK if isinstance(feature_index, DiskIndex) else len(listed_q))
    if n_listed < len(listed_q):
        chosen_q = np.random.default_rng(config.seed).choice(len(listed_q), n_listed, replace=False)
        listed_q = np.union1d(chosen_q, examples)
    neighbours = feature_index.neighbours_of_rows(listed_q, config.n_neighbours)
    table = neighbour_table(neighbours, listed_q, synapse_id)
    drawn = synapse_id[examples]
    return table.assign(is_drawn=table["synapse_id"].isin(drawn))


def answer_queries(
    synapse_embeddings: AnnData,
    feature_index: FeatureIndex,
    query_features: dict[str, np.ndarray],
    config: SimilarityConfig,
    neuroglancer: NeuroglancerConfig,
    traits: Traits = PUBLISHED_TRAITS,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Find the synapses most like the examples that the parameters name, or like chosen representatives.

    Args:
        synapse_embeddings: Synapses by features.
        feature_index: Their index; what passes a filter is searched exactly instead.
        query_features: Features of external chunks, if the query is by these.
        config: The parameters ``similarity``.
        neuroglancer: The parameters ``neuroglancer``: where links lead.
        traits: The parameter ``traits``: names of classes in the filter.

    Returns:
        The results with positions and links, and histograms of the distances of all synapses that were searched.
    """
    features_nf = feature_index.features_nf
    obs = synapse_embeddings.obs
    queries = make_queries(features_nf, obs["synapse_id"].to_numpy(), config, query_features)
    rows_m = eligible_rows(obs, config.filter, traits) if config.filter else None
    found = feature_index.answers(queries, config.n_neighbours, rows_m)
    results = result_table(queries, found, features_nf, obs, neuroglancer)
    return results, distance_histograms(features_nf, rows_m, queries)


def compare_indices(feature_index: FeatureIndex, config: SimilarityConfig) -> tuple[pd.DataFrame, dict[str, float]]:
    """Measure how many of the true neighbours approximate indices find.

    All of those in memory are measured on up to 50,000 synapses, beyond that only the one in use.

    Args:
        feature_index: The index in use.
        config: The parameters ``similarity``.

    Returns:
        ``index``, ``is_used``, ``n_synapses``, ``n_neighbours``, ``n_queries``, ``recall``; and the recall of the one
        in use as a metric.
    """
    n_synapses = len(feature_index)
    is_compared = n_synapses <= _MEASURE_ALL_BELOW and not isinstance(feature_index, DiskIndex)
    everything = ("flat", *APPROXIMATE) if is_compared else (feature_index.kind,)
    n_queries = min(config.n_recall_queries, n_synapses)
    rows = []
    for kind in everything:
        is_used, is_exact = kind == feature_index.kind, kind == "flat"
        recall = 1.0
        if not is_exact:
            index = feature_index if is_used else FeatureIndex(feature_index.features_nf, cast("IndexKind", kind))
            recall = measure_recall(index, config.n_neighbours, n_queries, config.seed)
        rows.append((kind, is_used, n_synapses, config.n_neighbours, 0 if is_exact else n_queries, recall))
    columns = ["index", "is_used", "n_synapses", "n_neighbours", "n_queries", "recall"]
    table = pd.DataFrame(rows, columns=columns)
    metrics = {f"similarity/recall/{row['index']}": float(row["recall"]) for row in table.to_dict("records")}
    return table, metrics


def draw_neighbours(
    similarity_results: pd.DataFrame, synapse_chunks: ChunkStore, query_chunks: QueryChunks | None = None
) -> Figure:
    """Draw the queries with their nearest neighbours; of a query's examples at most four are shown.

    A query by external chunks shows these, where they are given, else its neighbours alone.
    """
    groups = [rows.sort_values("rank") for _, rows in similarity_results.groupby("query", sort=False)]
    outside = {} if query_chunks is None else _outside_slabs(query_chunks)
    n_examples = min(_SHOWN_EXAMPLES, *(int((rows["rank"] == 0).sum()) for rows in groups))
    titles, slabs, distances = [], [], []
    for rows in groups:
        examples = rows[rows["rank"] == 0].head(n_examples)
        neighbours = rows[rows["rank"] > 0]
        shown = [name for name in str(rows["query"].iloc[0]).split("+") if name in outside][:_SHOWN_EXAMPLES]
        ids = np.array([*examples["synapse_id"], *neighbours["synapse_id"]])
        slabs.append(np.concatenate([*(outside[name] for name in shown), read_slabs(synapse_chunks, ids)]))
        titles.append([*shown, *map(str, ids)])
        distances.append(neighbours["distance"].to_numpy())
        n_outside = len(shown)
    voxel_size_nm = synapse_chunks.voxel_size_nm
    n_first = n_examples + n_outside
    return neighbour_strips(slabs, np.array(titles), np.stack(distances), voxel_size_nm, n_examples=n_first)


def _outside_slabs(query_chunks: QueryChunks) -> dict[str, np.ndarray]:
    """The best section of each external chunk, uint8 (1, 2, x, y, 1), by name."""
    return {
        name: best_slab(chunk_cxyz)[None]
        for name, chunk_cxyz in zip(query_chunks.names, query_chunks.chunk_qcxyz, strict=True)
    }


def draw_distances(distance_histograms: pd.DataFrame, similarity_results: pd.DataFrame) -> Figure:
    """Draw how far all synapses lie from each query, with those listed marked."""
    return distance_panels(distance_histograms, similarity_results)


def describe_similarity(
    synapse_embeddings: AnnData,
    similarity_strip: Drawing,
    similarity_distances: Drawing,
    index_recall: pd.DataFrame,
    config: ReportingConfig,
) -> dict[str, Any]:
    """Write the report's section on queries, their nearest neighbours, and what approximate indices would miss."""
    text = "The nearest neighbours of the queries in feature space are listed in similarity_results.csv."
    if similarity_strip != b"":
        text = (
            "Each row begins with a query synapse (framed); its nearest neighbours in feature space follow, in order."
        )
    used = index_recall.loc[index_recall["is_used"], "index"].iloc[0]
    if used == "ivfpq":
        text += " Neighbours are listed of a sample of the synapses (similarity.n_listed)."
    pictures = [
        Picture(
            similarity_strip,
            "One EM section each, through the widest part of the cleft; d is the Euclidean distance of the features.",
        ),
    ]
    distances = [
        Picture(
            similarity_distances,
            "Distance of every synapse from each query. Red: those listed as its neighbours.",
        ),
    ]
    rows = [
        [str(row["index"]), f"{row['n_neighbours']}", f"{row['n_queries']}", f"{row['recall']:.4f}"]
        for row in index_recall.to_dict("records")
    ]
    caption = f"Share of the true nearest neighbours that each index finds; in use: {used}."
    table = Table(("index", "neighbours", "queries", "recall"), rows, caption, is_folded=True, has_numbers=True)
    return pipeline_section(
        [
            Section("Similar synapses", [text], pictures),
            Section("Distances of similar synapses", (), distances, [table], part="appendix"),
        ],
        config,
        made_from=embedding_digests(synapse_embeddings.uns.get("provenance", {})),
    )
