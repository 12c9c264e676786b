"""What the tables of similar synapses hold."""

from __future__ import annotations

from synapseclr.analysis.schema_columns import (
    COUNT,
    KEY,
    NEUROGLANCER_URL,
    NOT_NEGATIVE,
    PLACES,
    POSITIVE_COUNT,
    SHARE,
    TEXT,
)
from synapseclr.volumes.table_schema import Column, TableSchema

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

INDEX_RECALL = TableSchema(
    "The table of index recall",
    {
        "index": Column("text", unique=True, rule=("isin", {"allowed_values": ["flat", "hnsw", "ivf"]})),
        "is_used": Column("flag"),
        "n_synapses": POSITIVE_COUNT,
        "n_neighbours": POSITIVE_COUNT,
        "n_queries": COUNT,
        "recall": SHARE,
    },
)
