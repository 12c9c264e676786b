"""What the tables of the features hold."""

from __future__ import annotations

from synapseclr.analysis.schema_columns import (
    COUNT,
    FROM_ZERO_RULE,
    GROUPED_MEANS,
    KEY,
    NOT_NEGATIVE,
    POSITIVE_COUNT,
    SHARE_RULE,
    TEXT,
)
from synapseclr.volumes.table_schema import Column, TableSchema

FEATURE_CLUSTERS = TableSchema(
    "The table of feature clusters",
    {
        "layer": TEXT,
        "feature": Column("integer", unique=True, rule=FROM_ZERO_RULE),
        "place": Column("integer", rule=("ge", {"min_value": -1})),
        "cluster": Column("integer", rule=("ge", {"min_value": -1})),
        "standard_deviation": NOT_NEGATIVE,
        "is_constant": Column("flag"),
    },
)

FEATURE_TREE = TableSchema(
    "The tree of features",
    dict.fromkeys(("left", "right", "height", "n_features"), NOT_NEGATIVE),
)

LAYER_SPECTRA = TableSchema(
    "The table of spectra",
    {
        **dict.fromkeys(("representation", "layer"), TEXT),
        "component": POSITIVE_COUNT,
        "variance": NOT_NEGATIVE,
        "fraction": Column(rule=("in_range", {"min_value": 0, "max_value": 1.000001})),
        "cumulative": Column(rule=("in_range", {"min_value": 0, "max_value": 1.000001})),
    },
    may_be_empty=False,
)

COMPONENT_TRAITS = TableSchema(
    "The table of components against traits",
    {
        **dict.fromkeys(("layer", "trait", "label"), TEXT),
        "component": POSITIVE_COUNT,
        "n": COUNT,
        "n_neurites": COUNT,
        **{
            name: Column(nullable=True, rule=("in_range", {"min_value": -1, "max_value": 1}))
            for name in ("rho", "lower_90", "upper_90")
        },
        **{
            name: Column(nullable=True, rule=SHARE_RULE) for name in ("p_value", "p_bonferroni", "p_benjamini_hochberg")
        },
        "reason": Column("text", nullable=True),
    },
)

COMPONENT_EXAMPLES = TableSchema(
    "The table of synapses at the ends of components",
    {
        "layer": TEXT,
        "component": POSITIVE_COUNT,
        "end": Column("text", rule=("isin", {"allowed_values": ["low", "high"]})),
        "rank": POSITIVE_COUNT,
        "synapse_id": KEY,
        "value": Column(),
    },
    key="synapse_id",
)

TRAIT_SUMMARIES = TableSchema(
    "The table of traits by cell types",
    {
        "source": Column("text", rule=("isin", {"allowed_values": ["measured", "imputed"]})),
        **dict.fromkeys(("combination", "trait", "label"), TEXT),
        **GROUPED_MEANS,
        "standard_deviation": NOT_NEGATIVE,
        "type_probability": Column(rule=SHARE_RULE),
    },
)
