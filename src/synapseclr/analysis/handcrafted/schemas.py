"""What the tables of statistics hold that are taken from chunks."""

from __future__ import annotations

from synapseclr.analysis.handcrafted.mask_statistics import MASK_STATISTIC_NAMES
from synapseclr.analysis.schema_columns import NOT_NEGATIVE, SHARE
from synapseclr.volumes.table_schema import Column, TableSchema

CHUNK_STATISTICS = TableSchema(
    "The table of chunk statistics",
    {
        "synapse_id": Column("id", unique=True),
        "intensity_mean": Column(),
        "intensity_variance": NOT_NEGATIVE,
        **{f"{name}_fraction": SHARE for name in ("pre_synaptic", "synaptic_cleft", "post_synaptic")},
    },
    key="synapse_id",
    may_be_empty=False,
)

MASK_STATISTICS = TableSchema(
    "The table of mask statistics",
    {
        "synapse_id": Column("id", unique=True),
        **{
            name: SHARE if name.endswith(("_fraction", "_missing", "_mean", "_deviation")) else Column()
            for name in MASK_STATISTIC_NAMES
        },
    },
    key="synapse_id",
    may_be_empty=False,
)
