"""What the tables of the training hold."""

from __future__ import annotations

from synapseclr.volumes.table_schema import Column, TableSchema

TRAINING_HISTORY = TableSchema(
    "The training history",
    {"epoch": Column("integer", unique=True, rule=("ge", {"min_value": 0})), "train_loss": Column(nullable=True)},
    key=None,
)
