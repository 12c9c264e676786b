"""More synapses like this one: neighbours in feature space, and queries."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, NamedTuple

import numpy as np
import pandas as pd

from synapseclr.analysis.config import FilterValue, SimilarityConfig
from synapseclr.analysis.feature_rows import FeatureRows
from synapseclr.analysis.neuroglancer import NeuroglancerConfig, synapse_links
from synapseclr.analysis.traits import TRAITS, Trait
from synapseclr.errors import SynapseCLRError, TableError
from synapseclr.volumes.synapse_table import rows_of_ids
from synapseclr.volumes.table_schema import (
    COUNT,
    KEY,
    NEUROGLANCER_URL,
    NOT_NEGATIVE,
    PLACES,
    POSITIVE_COUNT,
    SHARE,
    TEXT,
    Column,
    TableSchema,
)

NEAREST_NEIGHBOURS = TableSchema(
    "The table of nearest neighbours",
    {
        "synapse_id": KEY,
        "rank": POSITIVE_COUNT,
        "neighbour_synapse_id": KEY,
        "distance": NOT_NEGATIVE,
        "is_drawn": Column("flag"),
    },
    key="synapse_id",
)

INDEX_RECALL = TableSchema(
    "The table of index recall",
    {
        "index": Column("text", unique=True, rule=("isin", {"allowed_values": ["flat", "hnsw", "ivf", "ivfpq"]})),
        "is_used": Column("flag"),
        "n_synapses": POSITIVE_COUNT,
        "n_neighbours": POSITIVE_COUNT,
        "n_queries": COUNT,
        "recall": SHARE,
    },
)

IndexKind = Literal["auto", "flat", "hnsw", "ivf"]
APPROXIMATE: tuple[IndexKind, ...] = ("hnsw", "ivf")
_FLAT_BELOW = 500_000
_HNSW_LINKS = 32
_HNSW_SEARCH_DEPTH = 128
_IVF_POINTS_PER_LIST = 39  # training vectors a list below which faiss warns
_IVF_TRAINING_POINTS = 48  # per list; faiss' default, 256, takes five times as long
_IVF_PROBES = 20
_BLOCK_VALUES = 4_000_000  # feature values held at a time
_REPRESENTED_AMONG = 20_000
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


class Neighbours(NamedTuple):
    """Neighbours of queries, nearest first.

    Attributes:
        indices_qk: int64 (q, k): rows of the neighbours.
        distances_qk: float32 (q, k): Euclidean distances.
    """

    indices_qk: np.ndarray
    distances_qk: np.ndarray


def chosen_index(n_synapses: int, kind: IndexKind) -> IndexKind:
    """Resolve ``auto``: ``flat`` below 500,000 synapses, ``ivf`` from there on, which is fast to build."""
    if kind != "auto":
        return kind
    return "flat" if n_synapses < _FLAT_BELOW else "ivf"


def build_index(features_nf: np.ndarray, kind: IndexKind) -> Any:
    """Make a faiss index over all synapses by Euclidean distance.

    Args:
        features_nf: float32 (n, f).
        kind: ``flat`` is exact; ``hnsw`` is an approximate graph; ``ivf`` looks into the cells of a k-means partition
            that are nearest to the query, 20 of at most 2 sqrt(n); ``auto`` chooses by size.

    Returns:
        A faiss index that holds the n vectors.

    Source: Malkov & Yashunin 2020, doi:10.1109/TPAMI.2018.2889473, for ``hnsw``; Jegou et al. 2011,
    doi:10.1109/TPAMI.2010.57, for ``ivf``.
    """
    import faiss

    n_synapses, n_features = features_nf.shape
    kind = chosen_index(n_synapses, kind)
    vectors_nf = np.ascontiguousarray(features_nf, dtype=np.float32)
    index: Any
    if kind == "flat":
        index = faiss.IndexFlatL2(n_features)
    elif kind == "hnsw":
        index = faiss.IndexHNSWFlat(n_features, _HNSW_LINKS)
        index.hnsw.efSearch = _HNSW_SEARCH_DEPTH
    else:
        n_lists = max(1, min(int(2 * n_synapses**0.5), n_synapses // _IVF_POINTS_PER_LIST))
        index = faiss.IndexIVFFlat(faiss.IndexFlatL2(n_features), n_features, n_lists)
        index.cp.min_points_per_centroid = 1  # else faiss prints a warning about a handful of synapses
        index.cp.max_points_per_centroid = _IVF_TRAINING_POINTS
        index.train(vectors_nf)
        index.nprobe = min(_IVF_PROBES, n_lists)
    index.add(vectors_nf)
    return index


class FeatureIndex:
    """Index over the features of synapses. Which are found depends on its kind; their distances are exact.

    An exact (``flat``) search reads the features themselves, so it needs no memory of its own.

    Args:
        features_nf: float32 (n, f).
        kind: Kind of index, as for :func:`build_index`.
    """

    def __init__(self, features_nf: np.ndarray, kind: IndexKind = "auto") -> None:
        self.features_nf = np.ascontiguousarray(features_nf, dtype=np.float32)
        self.kind: str = chosen_index(len(features_nf), kind)
        self._index = None if self.kind == "flat" else build_index(self.features_nf, kind)

    def __len__(self) -> int:
        return len(self.features_nf)

    def search(self, query_qf: np.ndarray, k: int) -> Neighbours:
        """Find the k synapses nearest to each query vector.

        Args:
            query_qf: float (q, f).
            k: Neighbours per query.

        Returns:
            Neighbours, nearest first; of equally near ones the first row first. Where an approximate index finds fewer
            than k, the exact search is asked.

        Raises:
            SynapseCLRError: If there are fewer than k synapses.
        """
        self._check_enough(k)
        query_qf = np.ascontiguousarray(query_qf, dtype=np.float32)
        if self._index is None:
            return self.search_exactly(query_qf, k)
        indices_qk = self._index.search(query_qf, k)[1].astype(np.int64)
        is_short_q = (indices_qk < 0).any(axis=1)
        if is_short_q.any():
            indices_qk[is_short_q] = self.search_exactly(query_qf[is_short_q], k).indices_qk
        return self._nearest_first(query_qf, indices_qk)

    def _check_enough(self, k: int) -> None:
        if not 1 <= k <= len(self):
            raise SynapseCLRError(
                f"{k} neighbours asked for, but there are {len(self)} synapses to choose from: lower "
                "n_neighbours or widen the filter."
            )

    def vectors(self, rows_r: np.ndarray) -> np.ndarray:
        """Features of some synapses, float32 (r, f)."""
        return self.features_nf[rows_r]

    def search_exactly(self, query_qf: np.ndarray, k: int) -> Neighbours:
        """Find the true nearest synapses, whatever the kind of index; takes and returns what ``search`` does."""
        import faiss

        query_qf = np.ascontiguousarray(query_qf, dtype=np.float32)
        return self._nearest_first(query_qf, faiss.knn(query_qf, self.features_nf, k)[1])

    def neighbours_of_rows(self, rows_q: np.ndarray, k: int, exactly: bool = False) -> Neighbours:
        """Find the k synapses nearest to each of some synapses, the synapse itself excluded.

        Args:
            rows_q: int (q,): rows of the synapses.
            k: Neighbours per synapse.
            exactly: Search exactly, whatever the kind of index.

        Returns:
            Neighbours, nearest first. A duplicate of the synapse, at distance zero, counts as a neighbour.

        Raises:
            SynapseCLRError: If there are not k other synapses.
        """
        rows_q = np.asarray(rows_q, dtype=np.int64)
        if not 1 <= k <= len(self) - 1:
            raise SynapseCLRError(
                f"{k} neighbours asked for, but there are {len(self) - 1} other synapses: lower n_neighbours."
            )
        found = (self.search_exactly if exactly else self.search)(self.vectors(rows_q), k + 1)
        is_other_qk = found.indices_qk != rows_q[:, None]
        # Among duplicates the synapse may not be in its own list: then the farthest entry goes.
        is_other_qk[is_other_qk.all(axis=1), -1] = False
        shape = (len(rows_q), k)
        return Neighbours(found.indices_qk[is_other_qk].reshape(shape), found.distances_qk[is_other_qk].reshape(shape))

    def answers(self, queries: Sequence[Query], k: int, rows_m: np.ndarray | None = None) -> list[Neighbours]:
        """Find the k synapses nearest to each query, its examples excluded.

        Args:
            queries: The queries.
            k: Neighbours wanted.
            rows_m: int64 (m,), ascending: eligible synapses, which are searched exactly; None: all, by the index.

        Returns:
            As :func:`answer_query`, which also says what it raises.
        """
        index = self if rows_m is None else FeatureIndex(self.features_nf[rows_m], "flat")
        return [answer_query(index, rows_m, query, k) for query in queries]

    def _nearest_first(self, query_qf: np.ndarray, indices_qk: np.ndarray) -> Neighbours:
        distances_qk = exact_distances(self.features_nf, query_qf, indices_qk)
        order_qk = np.lexsort((indices_qk, distances_qk), axis=1)
        return Neighbours(
            np.take_along_axis(indices_qk, order_qk, axis=1), np.take_along_axis(distances_qk, order_qk, axis=1)
        )


def exact_distances(features_nf: np.ndarray, query_qf: np.ndarray, rows_qk: np.ndarray) -> np.ndarray:
    """Distances float32 (q, k) of queries to rows (q, k): differences squared and summed.

    faiss expands the square, ``|x|^2 - 2 x.y + |y|^2``, for many queries, and loses digits that way.
    """
    distances_qk = np.empty(rows_qk.shape, dtype=np.float32)
    step = max(1, _BLOCK_VALUES // max(1, rows_qk.shape[1] * features_nf.shape[1]))
    for start in range(0, len(query_qf), step):
        part = slice(start, start + step)
        difference_qkf = features_nf[rows_qk[part]] - query_qf[part, None]
        distances_qk[part] = np.sqrt(np.einsum("qkf,qkf->qk", difference_qkf, difference_qkf, dtype=np.float64))
    return distances_qk


def nearest_neighbours(
    features_nf: np.ndarray, query_indices: np.ndarray, k: int, kind: IndexKind = "flat"
) -> Neighbours:
    """Find the k synapses nearest to each query, with an index that is used once.

    Args:
        features_nf: float32 (n, f).
        query_indices: int (q,): rows of the queries.
        k: Neighbours per query, itself excluded.
        kind: Kind of index.

    Returns:
        As :meth:`FeatureIndex.neighbours_of_rows`, which also says what it raises.
    """
    return FeatureIndex(features_nf, kind).neighbours_of_rows(query_indices, k)


def measure_recall(index: FeatureIndex, k: int, n_queries: int = 200, seed: int = 0) -> float:
    """Share of the k true nearest neighbours that an index finds.

    Args:
        index: The index to measure.
        k: Neighbours per query, the query itself excluded; at most n - 1 are asked for.
        n_queries: Queries drawn without replacement; at most n.
        seed: Seed of the draw.

    Returns:
        Recall, 0 to 1. A neighbour that lies as near as the k-th true one counts as found, so that ties do no harm.
    """
    rng = np.random.default_rng(seed)
    query_q = rng.choice(len(index), size=min(n_queries, len(index)), replace=False)
    k = min(k, len(index) - 1)
    exact = index.neighbours_of_rows(query_q, k, exactly=True)
    found = index.neighbours_of_rows(query_q, k)
    return float((found.distances_qk <= exact.distances_qk[:, -1:] * (1 + 1e-6)).mean())


def neighbour_table(neighbours: Neighbours, query_indices: np.ndarray, synapse_id: np.ndarray) -> pd.DataFrame:
    """Lay out neighbours as a table of synapse ids.

    Args:
        neighbours: Of q queries.
        query_indices: int (q,): rows of the queries.
        synapse_id: int64 (n,): ids of all rows.

    Returns:
        q times k rows: ``synapse_id``, ``rank`` (1 is nearest), ``neighbour_synapse_id``, ``distance``.
    """
    n_queries, k = neighbours.indices_qk.shape
    return pd.DataFrame(
        {
            "synapse_id": np.repeat(synapse_id[np.asarray(query_indices)], k),
            "rank": np.tile(np.arange(1, k + 1), n_queries),
            "neighbour_synapse_id": synapse_id[neighbours.indices_qk.ravel()],
            "distance": neighbours.distances_qk.ravel().astype(np.float32),
        }
    )


def reciprocal_ranks(query_qf: np.ndarray, gallery_nf: np.ndarray, is_match_qn: np.ndarray) -> np.ndarray:
    """Reciprocal rank of the nearest match of every query.

    Features are standardised by the gallery, so that no feature counts by its scale; distances are Euclidean.

    Args:
        query_qf: Features of the queries, (q, f).
        gallery_nf: Features that are searched, (n, f).
        is_match_qn: Boolean: which of the gallery belong to a query. Entries that a query must not find, such as
            itself, are left out of the search by NaN: give float then, 1 for a match, 0 for none, NaN for left out.

    Returns:
        float64 (q,): 1 where the nearest belongs to the query, 1/2 where the second is the first to do so, ...; NaN for
        a query without a match.

    Source: Voorhees 1999, The TREC-8 question answering track report.
    """
    mean_f, std_f = gallery_nf.mean(axis=0), gallery_nf.std(axis=0)
    varies_f = std_f > 1e-7 * np.maximum(np.abs(mean_f), 1e-30)
    scaled = [((each - mean_f) / np.where(varies_f, std_f, 1.0))[:, varies_f] for each in (query_qf, gallery_nf)]
    squared_qn = np.square(scaled[0][:, None] - scaled[1][None]).sum(axis=2)
    match_qn = np.asarray(is_match_qn, dtype=float)
    squared_qn = np.where(np.isnan(match_qn), np.inf, squared_qn)
    ranks = np.full(len(query_qf), np.nan)
    for q, (distance_n, match_n) in enumerate(zip(squared_qn, match_qn, strict=True)):
        matches = np.flatnonzero(match_n == 1)
        if len(matches):
            # Ties count against the query: everything at least as near as the match stands before it.
            nearest = distance_n[matches].min()
            ranks[q] = 1 / max(1, int(((distance_n <= nearest) & (match_n != 1)).sum()) + 1)
    return ranks


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
    features_nf: np.ndarray | FeatureRows,
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


def answer_query(index: FeatureIndex, rows_m: np.ndarray | None, query: Query, k: int) -> Neighbours:
    """Find the k synapses nearest to a query, its examples excluded.

    Args:
        index: Over the eligible synapses.
        rows_m: int64 (m,), ascending: their rows among all synapses; None: all are eligible.
        query: The query.
        k: Neighbours wanted.

    Returns:
        Neighbours (1, k), rows among all synapses; each distance is to the nearest point of the query.

    Raises:
        SynapseCLRError: If fewer than k eligible synapses are no examples.
    """
    check_enough_others(query, rows_m, len(index), k)
    found = index.search(query.points_pf, min(len(index), k + len(query.rows_e)))
    indices_pk = found.indices_qk if rows_m is None else rows_m[found.indices_qk]
    return nearest_others(query, Neighbours(indices_pk, found.distances_qk), k)


def check_enough_others(query: Query, rows_m: np.ndarray | None, n_eligible: int, k: int) -> None:
    """Refuse to find k synapses where fewer eligible ones are no examples; arguments as of :func:`answer_query`."""
    rows_e = np.unique(query.rows_e)
    n_others = n_eligible - (len(rows_e) if rows_m is None else int(np.isin(rows_e, rows_m).sum()))
    if n_others < k:
        raise SynapseCLRError(
            f"{k} neighbours asked for, but there are {n_others} other synapses to choose from: lower "
            "similarity.n_neighbours or widen similarity.filter."
        )


def nearest_others(query: Query, found: Neighbours, k: int) -> Neighbours:
    """Join what was found near each point of a query, its examples left out, to the k nearest: (1, k)."""
    pairs = pd.DataFrame({"row": found.indices_qk.ravel(), "distance": found.distances_qk.ravel()})
    pairs = pairs[~pairs["row"].isin(query.rows_e)].sort_values(["distance", "row"], kind="stable")
    nearest = pairs.drop_duplicates("row").head(k)
    return Neighbours(nearest["row"].to_numpy()[None], nearest["distance"].to_numpy()[None])


def result_table(
    queries: Sequence[Query],
    found: Sequence[Neighbours],
    features_nf: np.ndarray | FeatureRows,
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
    features_nf: np.ndarray | FeatureRows, rows_m: np.ndarray | None, queries: Sequence[Query], n_bins: int = 40
) -> pd.DataFrame:
    """Count how far all eligible synapses lie from each query.

    Args:
        features_nf: float32 (n, f); those that are not in memory are read twice, block by block.
        rows_m: int64 (m,), ascending: rows of the eligible synapses; None: all.
        queries: The queries; their examples are not counted.
        n_bins: Bins of equal width from zero to the farthest synapse, the same for all queries.

    Returns:
        ``query``, ``distance_from``, ``distance_to``, ``n_synapses``, ``n_bins`` rows a query.
    """
    blocks: Callable[[], Iterable[list[np.ndarray]]]
    if isinstance(features_nf, np.ndarray):
        everything_m = np.arange(len(features_nf)) if rows_m is None else rows_m
        known = [
            [query.distances(features_nf[everything_m[~np.isin(everything_m, query.rows_e)]]) for query in queries]
        ]
        blocks = partial(iter, known)
    else:
        blocks = partial(_distances_by_block, features_nf, rows_m, queries)
    farthest = max((float(values.max()) for block in blocks() for values in block if len(values)), default=0.0)
    edges_b = np.linspace(0.0, farthest or 1.0, n_bins + 1)
    counts_qb = np.zeros((len(queries), n_bins), dtype=np.int64)
    for block in blocks():
        counts_qb += [np.histogram(np.minimum(values, edges_b[-1]), edges_b)[0] for values in block]
    tables = []
    for query, counts_b in zip(queries, counts_qb, strict=True):
        columns = {"distance_from": edges_b[:-1], "distance_to": edges_b[1:], "n_synapses": counts_b}
        tables.append(pd.DataFrame({"query": query.name, **columns}))
    return pd.concat(tables, ignore_index=True)


def _distances_by_block(
    features: FeatureRows, rows_m: np.ndarray | None, queries: Sequence[Query]
) -> Iterator[list[np.ndarray]]:
    """Distances float32 (r,) of each query, by block of rows; its examples are left out."""
    for rows_r, block_rf in features.blocks(rows_m):
        yield [query.distances(block_rf)[~np.isin(rows_r, query.rows_e)] for query in queries]


def representative_queries(features_nf: np.ndarray | FeatureRows, n_queries: int, seed: int = 0) -> np.ndarray:
    """Choose queries that stand for different regions of feature space.

    Args:
        features_nf: float32 (n, f); of those that are not in memory, some 20,000 are clustered.
        n_queries: Queries wanted; at most n are returned.
        seed: Seed of the clustering.

    Returns:
        int64 (q,), sorted: the synapse nearest to each centre of a k-means clustering.
    """
    from sklearn.cluster import KMeans
    from sklearn.metrics import pairwise_distances_argmin

    if not isinstance(features_nf, np.ndarray):
        runs = list(features_nf.sample(_REPRESENTED_AMONG))
        sampled = representative_queries(np.concatenate([part for _, part in runs]), n_queries, seed)
        return np.concatenate([np.asarray(rows) for rows, _ in runs])[sampled]
    if n_queries >= len(features_nf):
        return np.arange(len(features_nf))
    n_distinct = len(np.unique(features_nf, axis=0))
    clusters = KMeans(n_clusters=min(n_queries, n_distinct), n_init=1, random_state=seed).fit(features_nf)
    nearest_q = pairwise_distances_argmin(clusters.cluster_centers_, features_nf)
    return np.unique(nearest_q).astype(np.int64)
