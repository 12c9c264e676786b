"""What the tables of the manifold hold."""

from __future__ import annotations

from synapseclr.analysis.schema_columns import COUNT, GROUPED_MEANS, KEY, NOT_NEGATIVE, POSITIVE_COUNT, SHARE_RULE, TEXT
from synapseclr.volumes.table_schema import Column, TableSchema

SYNAPSE_ORIENTATIONS = TableSchema(
    "The table of cleft orientations",
    {
        "synapse_id": Column("id", unique=True),
        **{
            f"normal_{axis}": Column(nullable=True, rule=("in_range", {"min_value": -1.001, "max_value": 1.001}))
            for axis in "xyz"
        },
        "tilt_deg": Column(nullable=True, rule=("in_range", {"min_value": 0, "max_value": 90.001})),
        "azimuth_deg": Column(nullable=True, rule=("in_range", {"min_value": 0, "max_value": 180})),
        "n_cleft_voxels": COUNT,
    },
    key="synapse_id",
)

LEAKAGE_SCORES = TableSchema(
    "The table of leakage scores",
    {
        **dict.fromkeys(("representation", "layer", "effect"), TEXT),
        "probe": Column("text", rule=("isin", {"allowed_values": ["linear", "knn", "groups"]})),
        "score": Column(nullable=True, rule=("le", {"max_value": 1})),
        "null_mean": Column(nullable=True),
        "null_upper_95": Column(nullable=True),
        "p_value": Column(nullable=True, rule=SHARE_RULE),
        "n_synapses": COUNT,
        "reason": Column("text", nullable=True),
    },
)

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
