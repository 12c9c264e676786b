"""Answers to "find more like these": queries of one or more examples, among all synapses or some."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from synapseclr.analysis.config import FilterValue, SimilarityConfig
from synapseclr.analysis.schema_columns import (
    COUNT,
    KEY,
    NEUROGLANCER_URL,
    NOT_NEGATIVE,
    PLACES,
    TEXT,
)
from synapseclr.analysis.search.neighbours import FeatureIndex, Neighbours
from synapseclr.analysis.search.neuroglancer import NeuroglancerConfig, synapse_links
from synapseclr.analysis.traits import TRAITS, Trait
from synapseclr.errors import SynapseCLRError, TableError
from synapseclr.volumes.synapse_ids import rows_of_ids
from synapseclr.volumes.table_schema import TableSchema

SIMILARITY_RESULTS = TableSchema(
    "The table of similarity results",
    {
        "query": TEXT,
        "rank": COUNT,
        "synapse_id": KEY,
        "distance": NOT_NEGATIVE,
        **PLACES,
        "neuroglancer_url": NEUROGLANCER_URL,
    },
    key="synapse_id",
)

DISTANCE_HISTOGRAMS = TableSchema(
    "The table of distance histograms",
    {"query": TEXT, "distance_from": NOT_NEGATIVE, "distance_to": NOT_NEGATIVE, "n_synapses": COUNT},
)

_PLACES = ("centre_x_nm", "centre_y_nm", "centre_z_nm", "pre_root_id", "post_root_id")


@dataclass(frozen=True)
class Query:
    """One query: examples, and the points that distances are taken to.

    Attributes:
        name: The examples' ids, or the names of external chunks, joined by ``+``.
        rows_e: int64 (e,): rows of the examples; none for external chunks.
        points_pf: float32 (p, f): the points that distances are taken to, the least one counting: one per example, or
            their mean.
    """

    name: str
    rows_e: np.ndarray
    points_pf: np.ndarray

    def distances(self, features_nf: np.ndarray) -> np.ndarray:
        """Euclidean distance float32 (n,) of every synapse to the nearest point of the query."""
        squared_np = [((features_nf - point_f) ** 2).sum(axis=1, dtype=np.float64) for point_f in self.points_pf]
        return np.sqrt(np.min(squared_np, axis=0)).astype(np.float32)


def make_queries(
    features_nf: np.ndarray,
    synapse_id: np.ndarray,
    config: SimilarityConfig,
    external: Mapping[str, np.ndarray] | None = None,
) -> list[Query]:
    """Turn the parameters into queries.

    Args:
        features_nf: float32 (n, f).
        synapse_id: int64 (n,).
        config: ``query`` names the examples, ``combine`` says what to do with several; without ``query``,
            representatives of feature space are chosen, each a query of its own.
        external: Features (f,) of chunks that are not among the synapses, by name; they take the place of ``query``.

    Returns:
        At least one query.

    Raises:
        TableError: If an id is unknown.
        SynapseCLRError: If ``query`` names a chunk whose features are not given.
    """
    if external:
        return _external_queries(external, config.combine)
    if isinstance(config.query, str):
        raise SynapseCLRError(
            f"similarity.query names a chunk, {config.query}, which was not read: in a parameters file it takes "
            "synapse ids. Give the path on the command line (--params=query=...), or in the catalog (query_chunks)."
        )
    if config.query is None:
        rows = representative_queries(features_nf, config.n_queries, config.seed)
        groups = [rows[position : position + 1] for position in range(len(rows))]
    else:
        rows = rows_of_ids(config.query, synapse_id, "similarity.query")
        is_each = config.combine == "each"
        groups = [rows[position : position + 1] for position in range(len(rows))] if is_each else [rows]
    queries = []
    for rows_e in groups:
        points_pf = features_nf[rows_e]
        if config.combine == "mean":
            points_pf = points_pf.mean(axis=0, keepdims=True)
        queries.append(Query("+".join(str(identifier) for identifier in synapse_id[rows_e]), rows_e, points_pf))
    return queries


def _external_queries(external: Mapping[str, np.ndarray], combine: str) -> list[Query]:
    names, points_pf = list(external), np.stack(list(external.values())).astype(np.float32)
    rows_e = np.array([], dtype=np.int64)
    if combine == "each":
        return [Query(name, rows_e, point_f[None]) for name, point_f in zip(names, points_pf, strict=True)]
    points_pf = points_pf.mean(axis=0, keepdims=True) if combine == "mean" else points_pf
    return [Query("+".join(names), rows_e, points_pf)]


def eligible_rows(
    obs: pd.DataFrame, conditions: Mapping[str, FilterValue], traits: Sequence[Trait] = TRAITS
) -> np.ndarray:
    """Select synapses by their metadata.

    Args:
        obs: One row per synapse.
        conditions: Column to the value wanted; all must hold. Class traits may be given by the class's name.
        traits: Traits whose classes have names.

    Returns:
        int64 (m,): rows, ascending.

    Raises:
        TableError: If a column is absent or no synapse is left, with the columns or values there are.
    """
    is_wanted_n = np.ones(len(obs), dtype=bool)
    codes = {trait.name: {name: float(code) for code, name in enumerate(trait.class_names)} for trait in traits}
    for column, value in conditions.items():
        if column not in obs:
            raise TableError(
                f"Parameter similarity.filter names '{column}'. Columns there are: {', '.join(map(str, obs))}."
            )
        wanted = codes.get(column, {}).get(str(value), value)
        is_wanted_n &= (obs[column] == wanted).to_numpy()
        if not is_wanted_n.any():
            present = ", ".join(str(item) for item in list(obs[column].dropna().unique())[:6])
            raise TableError(f"No synapse passes similarity.filter at {column} = {value}. Values there are: {present}.")
    return np.flatnonzero(is_wanted_n)


def answer_query(index: FeatureIndex, rows_m: np.ndarray, query: Query, k: int) -> Neighbours:
    """Find the k synapses nearest to a query, its examples excluded.

    Args:
        index: Over the eligible synapses.
        rows_m: int64 (m,): their rows among all synapses.
        query: The query.
        k: Neighbours wanted.

    Returns:
        Neighbours (1, k), rows among all synapses; each distance is to the nearest point of the query.

    Raises:
        SynapseCLRError: If fewer than k eligible synapses are no examples.
    """
    is_example_m = np.isin(rows_m, query.rows_e)
    n_others = len(rows_m) - int(is_example_m.sum())
    if n_others < k:
        raise SynapseCLRError(
            f"{k} neighbours asked for, but there are {n_others} other synapses to choose from: lower "
            "similarity.n_neighbours or widen similarity.filter."
        )
    found = index.search(query.points_pf, min(len(rows_m), k + len(query.rows_e)))
    pairs = pd.DataFrame({"position": found.indices_qk.ravel(), "distance": found.distances_qk.ravel()})
    pairs = pairs[~is_example_m[pairs["position"]]].sort_values(["distance", "position"], kind="stable")
    nearest = pairs.drop_duplicates("position").head(k)
    return Neighbours(rows_m[nearest["position"].to_numpy()][None], nearest["distance"].to_numpy()[None])


def result_table(
    queries: Sequence[Query],
    found: Sequence[Neighbours],
    features_nf: np.ndarray,
    obs: pd.DataFrame,
    neuroglancer: NeuroglancerConfig,
) -> pd.DataFrame:
    """Lay out answers for people: who, how far, and where to look.

    Args:
        queries: The queries.
        found: Their neighbours.
        features_nf: float32 (n, f): of all synapses.
        obs: Their metadata.
        neuroglancer: Where links lead.

    Returns:
        ``query``, ``rank`` (0: an example of the query itself), ``synapse_id``, ``distance``, positions in nm and
        neurites as far as ``obs`` has them, ``neuroglancer_url`` (missing without a public volume).
    """
    parts = []
    for query, neighbours in zip(queries, found, strict=True):
        rows_r = np.concatenate([query.rows_e, neighbours.indices_qk[0]])
        ranks_r = [0] * len(query.rows_e) + list(range(1, neighbours.indices_qk.shape[1] + 1))
        distances_r = np.concatenate([query.distances(features_nf[query.rows_e]), neighbours.distances_qk[0]])
        chosen = obs.iloc[rows_r]
        part = pd.DataFrame({"query": query.name, "rank": ranks_r, "synapse_id": chosen["synapse_id"].to_numpy()})
        part["distance"] = distances_r
        for column in _PLACES:
            if column in chosen:
                part[column] = chosen[column].to_numpy()
        part["neuroglancer_url"] = synapse_links(chosen, neuroglancer)
        parts.append(part)
    return pd.concat(parts, ignore_index=True)


def distance_histograms(
    features_nf: np.ndarray, rows_m: np.ndarray, queries: Sequence[Query], n_bins: int = 40
) -> pd.DataFrame:
    """Count how far all eligible synapses lie from each query.

    Args:
        features_nf: float32 (n, f).
        rows_m: int64 (m,): rows of the eligible synapses.
        queries: The queries; their examples are not counted.
        n_bins: Bins of equal width from zero to the farthest synapse, the same for all queries.

    Returns:
        ``query``, ``distance_from``, ``distance_to``, ``n_synapses``, ``n_bins`` rows a query.
    """
    distances = []
    for query in queries:
        others_o = rows_m[~np.isin(rows_m, query.rows_e)]
        distances.append(query.distances(features_nf[others_o]))
    farthest = max((float(values.max()) for values in distances if len(values)), default=0.0)
    edges_b = np.linspace(0.0, farthest or 1.0, n_bins + 1)
    tables = []
    for query, values in zip(queries, distances, strict=True):
        counts_b = np.histogram(np.minimum(values, edges_b[-1]), edges_b)[0]
        columns = {"distance_from": edges_b[:-1], "distance_to": edges_b[1:], "n_synapses": counts_b}
        tables.append(pd.DataFrame({"query": query.name, **columns}))
    return pd.concat(tables, ignore_index=True)


def representative_queries(features_nf: np.ndarray, n_queries: int, seed: int = 0) -> np.ndarray:
    """Choose queries that stand for different regions of feature space.

    Args:
        features_nf: float32 (n, f).
        n_queries: Queries wanted; at most n are returned.
        seed: Seed of the clustering.

    Returns:
        int64 (q,), sorted: the synapse nearest to each centre of a k-means clustering.
    """
    from sklearn.cluster import KMeans
    from sklearn.metrics import pairwise_distances_argmin

    if n_queries >= len(features_nf):
        return np.arange(len(features_nf))
    n_distinct = len(np.unique(features_nf, axis=0))
    clusters = KMeans(n_clusters=min(n_queries, n_distinct), n_init=1, random_state=seed).fit(features_nf)
    nearest_q = pairwise_distances_argmin(clusters.cluster_centers_, features_nf)
    return np.unique(nearest_q).astype(np.int64)
