"""What the tables hold that searches make: similar synapses, and defective ones."""

from __future__ import annotations

import pandas as pd

from synapseclr.analysis.mask_statistics import MASK_STATISTIC_NAMES
from synapseclr.volumes.schema import Column, TableSchema

_KEY = Column("id")
_TEXT = Column("text")
_COUNT = Column("integer", rule=("ge", {"min_value": 0}))
_POSITIVE = Column("integer", rule=("ge", {"min_value": 1}))
_DISTANCE = Column(rule=("ge", {"min_value": 0}))
_SHARE = Column(rule=("in_range", {"min_value": 0, "max_value": 1}))
_LINK = Column("text", nullable=True)  # none without a volume that a browser can read
_PLACES = {f"centre_{axis}_nm": Column(optional=True) for axis in "xyz"}

SIMILARITY_RESULTS = TableSchema(
    "The table of similarity results",
    {"query": _TEXT, "rank": _COUNT, "synapse_id": _KEY, "distance": _DISTANCE, **_PLACES, "neuroglancer_url": _LINK},
    key="synapse_id",
)

DISTANCE_HISTOGRAMS = TableSchema(
    "The table of distance histograms",
    {"query": _TEXT, "distance_from": _DISTANCE, "distance_to": _DISTANCE, "n_synapses": _COUNT},
)

INDEX_RECALL = TableSchema(
    "The table of index recall",
    {
        "index": Column("text", unique=True, rule=("isin", {"allowed_values": ["flat", "hnsw", "ivf"]})),
        "is_used": Column("flag"),
        "n_synapses": _POSITIVE,
        "n_neighbours": _POSITIVE,
        "n_queries": _COUNT,
        "recall": _SHARE,
    },
)

MASK_STATISTICS = TableSchema(
    "The table of mask statistics",
    {
        "synapse_id": Column("id", unique=True),
        **{
            name: _SHARE if name.endswith(("_fraction", "_missing", "_mean", "_deviation")) else Column()
            for name in MASK_STATISTIC_NAMES
        },
    },
    key="synapse_id",
    may_be_empty=False,
)

_SCORES = {
    "rank": _COUNT,
    "synapse_id": Column("id", unique=True),
    "score": Column(rule=("ge", {"min_value": 0})),
    "unsupervised": Column(),
    "likeness": Column(nullable=True, rule=("in_range", {"min_value": -1.000001, "max_value": 1.000001})),
    "is_example": Column("flag"),
    "is_accepted": Column("flag"),
    **_PLACES,
}

OUTLIER_SCORES = TableSchema("The table of outlier scores", _SCORES, key="synapse_id", may_be_empty=False)

OUTLIER_CANDIDATES = TableSchema(
    "The table of outlier candidates", {**_SCORES, "neuroglancer_url": _LINK}, key="synapse_id"
)

EXCLUDED_SYNAPSES = TableSchema(
    "The table of excluded synapses",
    {
        "synapse_id": Column("id", unique=True),
        "reason": Column("text", rule=("isin", {"allowed_values": ["example", "accepted", "listed"]})),
    },
    key="synapse_id",
)

ACCEPTED_DEFECTS = TableSchema("The table accepted_defects", {"synapse_id": _KEY}, key="synapse_id")

OUTLIER_DETECTION = TableSchema(
    "The table of outlier detection",
    {
        **dict.fromkeys(("representation", "layer", "method", "kind", "metric"), _TEXT),
        "n_examples": _COUNT,
        "mean": _SHARE,
        "std": Column(rule=("ge", {"min_value": 0})),
        "n_draws": _POSITIVE,
        "n_defects": _POSITIVE,
    },
)


def check_accepted_defects(table: pd.DataFrame) -> pd.DataFrame:
    """Check the user's list of defects; a table without columns stands for a file that is not there."""
    return ACCEPTED_DEFECTS.validate(table) if len(table.columns) else table
