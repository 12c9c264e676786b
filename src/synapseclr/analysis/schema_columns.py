"""Columns that tables of several analyses share."""

from __future__ import annotations

from synapseclr.volumes.table_schema import Column

SHARE_RULE = ("in_range", {"min_value": 0, "max_value": 1})
FROM_ZERO_RULE = ("ge", {"min_value": 0})
KEY = Column("id")
TEXT = Column("text")
COUNT = Column("integer", rule=FROM_ZERO_RULE)
POSITIVE_COUNT = Column("integer", rule=("ge", {"min_value": 1}))
NOT_NEGATIVE = Column(rule=FROM_ZERO_RULE)
SHARE = Column(rule=SHARE_RULE)
SCORE = Column(rule=("le", {"max_value": 1}))
METRIC = Column("text", rule=("isin", {"allowed_values": ["roc_auc", "macro_auc", "explained_variance"]}))
NEUROGLANCER_URL = Column("text", nullable=True)
"""Empty where there is no volume that a browser can read."""

PLACES = {f"centre_{axis}_nm": Column(optional=True) for axis in "xyz"}
GROUPED_MEANS = {
    "n": POSITIVE_COUNT,
    "n_neurites": POSITIVE_COUNT,
    "mean": Column(),
    "lower_90": Column(),
    "upper_90": Column(),
}
"""A mean with its interval over neurites."""
