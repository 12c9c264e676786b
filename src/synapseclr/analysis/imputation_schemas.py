"""What the tables of the imputation hold."""

from __future__ import annotations

from synapseclr.volumes.schema import Column, TableSchema

_TEXT = Column("text")
_COUNT = Column("integer", rule=("ge", {"min_value": 0}))
_METRIC = Column("text", rule=("isin", {"allowed_values": ["roc_auc", "explained_variance"]}))
_SPLIT = Column("text", rule=("isin", {"allowed_values": ["neurite", "synapse"]}))
_SCORE = Column(rule=("le", {"max_value": 1}))
_SD = Column(rule=("ge", {"min_value": 0}))
_SHARE = Column(rule=("in_range", {"min_value": 0, "max_value": 1}))
_MAYBE_SHARE = Column(nullable=True, optional=True, rule=("in_range", {"min_value": 0, "max_value": 1}))

IMPUTED_TRAITS = TableSchema(
    "The table of imputed traits", {"synapse_id": Column("id", unique=True)}, key="synapse_id", may_be_empty=False
)

HELD_OUT_PREDICTIONS = TableSchema(
    "The table of held-out predictions",
    {
        "synapse_id": Column("id"),
        "trait": _TEXT,
        "split": _SPLIT,
        "fold": _COUNT,
        "neurite": Column("id"),
        "target": Column(),
        "mean": Column(),
        "sd": _SD,
        "stated_mean": Column(),
        "stated_sd": _SD,
        "out_of_distribution": _SHARE,
    },
    key="synapse_id",
)

IMPUTATION_SCORES = TableSchema(
    "The table of imputation scores",
    {
        "trait": _TEXT,
        "split": _SPLIT,
        "metric": _METRIC,
        "repetition": _COUNT,
        "fold": _COUNT,
        "score": _SCORE,
        "n_train": _COUNT,
        "n_test": _COUNT,
    },
)

IMPUTATION_CALIBRATION = TableSchema(
    "The table of the imputation's calibration",
    {
        "trait": _TEXT,
        "split": _SPLIT,
        "is_corrected": Column("flag"),
        "n": _COUNT,
        **dict.fromkeys(
            ("expected_calibration_error", "debiased_calibration_error", "coverage_50", "coverage_90"), _MAYBE_SHARE
        ),
    },
)

UNIMPUTED_TRAITS = TableSchema(
    "The table of traits that were not imputed",
    {"trait": Column("text", unique=True), "label": _TEXT, "n_annotated": _COUNT, "reason": _TEXT},
)

LEARNING_CURVES = TableSchema(
    "The table of learning curves",
    {
        "trait": _TEXT,
        "metric": _METRIC,
        "fraction": Column(nullable=True, rule=("in_range", {"min_value": 0, "max_value": 1})),
        "repetition": _COUNT,
        "n_train": _COUNT,
        "n_test": _COUNT,
        "score": Column(nullable=True, rule=("le", {"max_value": 1})),
        "reason": Column("text", nullable=True),
    },
)
