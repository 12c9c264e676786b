"""What the tables of the consensus hold."""

from __future__ import annotations

from synapseclr.volumes.table_schema import Column, TableSchema

_COUNT = Column("integer", rule=("ge", {"min_value": 0}))
_SHARE = Column(rule=("in_range", {"min_value": 0, "max_value": 1}))
_MAYBE_SHARE = Column(nullable=True, rule=("in_range", {"min_value": 0, "max_value": 1}))
_TYPE = Column(nullable=True, rule=("isin", {"allowed_values": [0.0, 1.0]}))
_FRACTION = Column(rule=("in_range", {"min_value": 0, "max_value": 1}))

NEURITE_CELL_TYPES = TableSchema(
    "The table of neurites",
    {
        "root_id": Column("root_id", unique=True),
        "n_synapses": _COUNT,
        "n_pre": _COUNT,
        "n_post": _COUNT,
        "probability": _SHARE,
        "independent_probability": _SHARE,
        "cell_type": _TYPE,
        "annotated_type": _TYPE,
    },
)

HELD_OUT_NEURITES = TableSchema(
    "The table of held-out neurites",
    {
        "root_id": Column("root_id", unique=True),
        "n_synapses": _COUNT,
        "target": Column(rule=("isin", {"allowed_values": [0.0, 1.0]})),
        "probability": _SHARE,
        "independent_probability": _SHARE,
        "synapse_accuracy": _SHARE,
    },
)

_EVALUATION = {
    "stratum": Column("text"),
    "method": Column("text", rule=("isin", {"allowed_values": ["corrected", "independent"]})),
    "n_neurites": _COUNT,
    "accuracy": _SHARE,
    "lower_90": _SHARE,
    "upper_90": _SHARE,
    "synapse_accuracy": _SHARE,
    "called": _SHARE,
    "accuracy_called": _MAYBE_SHARE,
    "expected_calibration_error": _SHARE,
    "debiased_calibration_error": _MAYBE_SHARE,
    "calibration_error_by_chance": _SHARE,
    "log_loss": Column(rule=("ge", {"min_value": 0})),
}

CONSENSUS_EVALUATION = TableSchema("The evaluation of the consensus", _EVALUATION)

CENSORED_CONSENSUS = TableSchema(
    "The evaluation of the consensus with few labels",
    {"fraction": _FRACTION, "n_labels": _COUNT, "n_seeds": _COUNT, **_EVALUATION},
)

CENSORED_FAILURES = TableSchema(
    "The table of draws of labels that could not be evaluated",
    {"fraction": _FRACTION, "seed": _COUNT, "n_labels": _COUNT, "reason": Column("text")},
)
