"""What the tables hold that training and the analyses make."""

from __future__ import annotations

from synapseclr.volumes.schema import Column, TableSchema

_KEY = Column("id")
_TEXT = Column("text")
_COUNT = Column("integer", rule=("ge", {"min_value": 0}))

CHUNK_STATISTICS = TableSchema(
    "The table of chunk statistics",
    {
        "synapse_id": Column("id", unique=True),
        "intensity_mean": Column(),
        "intensity_variance": Column(rule=("ge", {"min_value": 0})),
        **{
            f"{name}_fraction": Column(rule=("in_range", {"min_value": 0, "max_value": 1}))
            for name in ("pre_synaptic", "synaptic_cleft", "post_synaptic")
        },
    },
    key="synapse_id",
    may_be_empty=False,
)

TRAINING_HISTORY = TableSchema(
    "The training history",
    {"epoch": Column("integer", unique=True, rule=("ge", {"min_value": 0})), "train_loss": Column(nullable=True)},
    key=None,
)

NEAREST_NEIGHBOURS = TableSchema(
    "The table of nearest neighbours",
    {
        "synapse_id": _KEY,
        "rank": Column("integer", rule=("ge", {"min_value": 1})),
        "neighbour_synapse_id": _KEY,
        "distance": Column(rule=("ge", {"min_value": 0})),
        "is_drawn": Column("flag"),
    },
    key="synapse_id",
)

TRAIT_SCORES = TableSchema(
    "The table of trait scores",
    {
        **dict.fromkeys(("representation", "layer", "trait", "probe"), _TEXT),
        "metric": Column("text", rule=("isin", {"allowed_values": ["roc_auc", "explained_variance"]})),
        "fold": _COUNT,
        "score": Column(rule=("le", {"max_value": 1})),
        "n_train": _COUNT,
        "n_test": _COUNT,
    },
)

UNSCORED_TRAITS = TableSchema(
    "The table of traits without a score",
    {"trait": Column("text", unique=True), "label": _TEXT, "n_annotated": _COUNT, "reason": _TEXT},
)
