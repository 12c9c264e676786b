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

_FRACTION = ("in_range", {"min_value": 0, "max_value": 1})
_FROM_ZERO = ("ge", {"min_value": 0})
_MEANS = {
    "n": Column("integer", rule=("ge", {"min_value": 1})),
    "n_neurites": Column("integer", rule=("ge", {"min_value": 1})),
    "mean": Column(),
    "lower_90": Column(),
    "upper_90": Column(),
}

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
        "n_cleft_voxels": _COUNT,
    },
    key="synapse_id",
)

LEAKAGE_SCORES = TableSchema(
    "The table of leakage scores",
    {
        **dict.fromkeys(("representation", "layer", "effect"), _TEXT),
        "probe": Column("text", rule=("isin", {"allowed_values": ["linear", "knn", "groups"]})),
        "score": Column(nullable=True, rule=("le", {"max_value": 1})),
        "null_mean": Column(nullable=True),
        "null_upper_95": Column(nullable=True),
        "p_value": Column(nullable=True, rule=_FRACTION),
        "n_synapses": _COUNT,
        "reason": Column("text", nullable=True),
    },
)

CLUSTER_PROFILES = TableSchema(
    "The table of traits per cluster",
    {"cluster": _COUNT, "n_synapses": _COUNT, "trait": _TEXT, "label": _TEXT, **_MEANS},
)

AXIS_POSITIONS = TableSchema(
    "The table of places along axes",
    {
        "cluster": _COUNT,
        "axis": Column("integer", rule=("ge", {"min_value": 1})),
        "synapse_id": _KEY,
        "position": Column(),
        "offset": Column(rule=_FROM_ZERO),
        "sample": Column("integer", rule=("ge", {"min_value": -1})),
    },
    key="synapse_id",
)

AXIS_PROFILES = TableSchema(
    "The table of traits along axes",
    {
        "cluster": _COUNT,
        "axis": Column("integer", rule=("ge", {"min_value": 1})),
        "trait": _TEXT,
        "label": _TEXT,
        "bin": _COUNT,
        "position": Column(),
        **_MEANS,
    },
)

FEATURE_CLUSTERS = TableSchema(
    "The table of feature clusters",
    {
        "layer": _TEXT,
        "feature": Column("integer", unique=True, rule=_FROM_ZERO),
        "place": Column("integer", rule=("ge", {"min_value": -1})),
        "cluster": Column("integer", rule=("ge", {"min_value": -1})),
        "standard_deviation": Column(rule=_FROM_ZERO),
        "is_constant": Column("flag"),
    },
)

FEATURE_TREE = TableSchema(
    "The tree of features",
    {name: Column(rule=_FROM_ZERO) for name in ("left", "right", "height", "n_features")},
)

LAYER_SPECTRA = TableSchema(
    "The table of spectra",
    {
        **dict.fromkeys(("representation", "layer"), _TEXT),
        "component": Column("integer", rule=("ge", {"min_value": 1})),
        "variance": Column(rule=_FROM_ZERO),
        "fraction": Column(rule=("in_range", {"min_value": 0, "max_value": 1.000001})),
        "cumulative": Column(rule=("in_range", {"min_value": 0, "max_value": 1.000001})),
    },
    may_be_empty=False,
)

COMPONENT_TRAITS = TableSchema(
    "The table of components against traits",
    {
        **dict.fromkeys(("layer", "trait", "label"), _TEXT),
        "component": Column("integer", rule=("ge", {"min_value": 1})),
        "n": _COUNT,
        "n_neurites": _COUNT,
        **{
            name: Column(nullable=True, rule=("in_range", {"min_value": -1, "max_value": 1}))
            for name in ("rho", "lower_90", "upper_90")
        },
        **{name: Column(nullable=True, rule=_FRACTION) for name in ("p_value", "p_bonferroni", "p_benjamini_hochberg")},
        "reason": Column("text", nullable=True),
    },
)

COMPONENT_EXAMPLES = TableSchema(
    "The table of synapses at the ends of components",
    {
        "layer": _TEXT,
        "component": Column("integer", rule=("ge", {"min_value": 1})),
        "end": Column("text", rule=("isin", {"allowed_values": ["low", "high"]})),
        "rank": Column("integer", rule=("ge", {"min_value": 1})),
        "synapse_id": _KEY,
        "value": Column(),
    },
    key="synapse_id",
)

TRAIT_SUMMARIES = TableSchema(
    "The table of traits by cell types",
    {
        "source": Column("text", rule=("isin", {"allowed_values": ["measured", "imputed"]})),
        **dict.fromkeys(("combination", "trait", "label"), _TEXT),
        **_MEANS,
        "standard_deviation": Column(rule=_FROM_ZERO),
        "type_probability": Column(rule=_FRACTION),
    },
)
