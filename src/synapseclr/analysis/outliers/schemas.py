"""What the tables of defective synapses hold."""

from __future__ import annotations

import pandas as pd

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

_SCORES = {
    "rank": COUNT,
    "synapse_id": Column("id", unique=True),
    "score": NOT_NEGATIVE,
    "unsupervised": Column(),
    "likeness": Column(nullable=True, rule=("in_range", {"min_value": -1.000001, "max_value": 1.000001})),
    "is_example": Column("flag"),
    "is_accepted": Column("flag"),
    **PLACES,
}

OUTLIER_SCORES = TableSchema("The table of outlier scores", _SCORES, key="synapse_id", may_be_empty=False)

OUTLIER_CANDIDATES = TableSchema(
    "The table of outlier candidates", {**_SCORES, "neuroglancer_url": NEUROGLANCER_URL}, key="synapse_id"
)

EXCLUDED_SYNAPSES = TableSchema(
    "The table of excluded synapses",
    {
        "synapse_id": Column("id", unique=True),
        "reason": Column("text", rule=("isin", {"allowed_values": ["example", "accepted", "listed"]})),
    },
    key="synapse_id",
)

ACCEPTED_DEFECTS = TableSchema("The table accepted_defects", {"synapse_id": KEY}, key="synapse_id")

OUTLIER_DETECTION = TableSchema(
    "The table of outlier detection",
    {
        **dict.fromkeys(("representation", "layer", "method", "kind", "metric"), TEXT),
        "n_examples": COUNT,
        "mean": SHARE,
        "std": NOT_NEGATIVE,
        "n_draws": POSITIVE_COUNT,
        "n_defects": POSITIVE_COUNT,
    },
)


def check_accepted_defects(table: pd.DataFrame) -> pd.DataFrame:
    """Check the user's list of defects; a table without columns stands for a file that is not there."""
    return ACCEPTED_DEFECTS.validate(table) if len(table.columns) else table
