"""What the tables of the imputation hold."""

from __future__ import annotations

from synapseclr.analysis.schema_columns import COUNT, METRIC, NOT_NEGATIVE, SCORE, SHARE, SHARE_RULE, TEXT
from synapseclr.volumes.table_schema import Column, TableSchema

TRAIT_SCORES = TableSchema(
    "The table of trait scores",
    {
        **dict.fromkeys(("representation", "layer", "trait", "probe"), TEXT),
        "metric": METRIC,
        "fold": COUNT,
        "score": SCORE,
        "n_train": COUNT,
        "n_test": COUNT,
    },
)

UNSCORED_TRAITS = TableSchema(
    "The table of traits without a score",
    {"trait": Column("text", unique=True), "label": TEXT, "n_annotated": COUNT, "reason": TEXT},
)

_SPLIT = Column("text", rule=("isin", {"allowed_values": ["neurite", "synapse"]}))

_MAYBE_SHARE = Column(nullable=True, optional=True, rule=SHARE_RULE)

IMPUTED_TRAITS = TableSchema(
    "The table of imputed traits", {"synapse_id": Column("id", unique=True)}, key="synapse_id", may_be_empty=False
)

HELD_OUT_PREDICTIONS = TableSchema(
    "The table of held-out predictions",
    {
        "synapse_id": Column("id"),
        "trait": TEXT,
        "split": _SPLIT,
        "fold": COUNT,
        "neurite": Column("root_id"),
        "target": Column(),
        "mean": Column(),
        "sd": NOT_NEGATIVE,
        "stated_mean": Column(),
        "stated_sd": NOT_NEGATIVE,
        "out_of_distribution": SHARE,
    },
    key="synapse_id",
)

IMPUTATION_SCORES = TableSchema(
    "The table of imputation scores",
    {
        "trait": TEXT,
        "split": _SPLIT,
        "metric": METRIC,
        "repetition": COUNT,
        "fold": COUNT,
        "score": SCORE,
        "n_train": COUNT,
        "n_test": COUNT,
    },
)

IMPUTATION_CALIBRATION = TableSchema(
    "The table of the imputation's calibration",
    {
        "trait": TEXT,
        "split": _SPLIT,
        "is_corrected": Column("flag"),
        "n": COUNT,
        **dict.fromkeys(
            ("expected_calibration_error", "debiased_calibration_error", "coverage_50", "coverage_90"), _MAYBE_SHARE
        ),
    },
)

UNIMPUTED_TRAITS = TableSchema(
    "The table of traits that were not imputed",
    {"trait": Column("text", unique=True), "label": TEXT, "n_annotated": COUNT, "reason": TEXT},
)

LEARNING_CURVES = TableSchema(
    "The table of learning curves",
    {
        "trait": TEXT,
        "metric": METRIC,
        "fraction": Column(nullable=True, rule=SHARE_RULE),
        "repetition": COUNT,
        "n_train": COUNT,
        "n_test": COUNT,
        "score": Column(nullable=True, rule=("le", {"max_value": 1})),
        "reason": Column("text", nullable=True),
    },
)
