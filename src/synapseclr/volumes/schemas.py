"""What the tables hold that go into and come out of preprocessing."""

from __future__ import annotations

import pandas as pd

from synapseclr.volumes.schema import Column, TableSchema

_ID = Column("id", unique=True)
_ROOT = Column("root_id")  # 0: no neurite
_COUNT = Column("integer", rule=("ge", {"min_value": 0}))
_VOLUME = Column(rule=("ge", {"min_value": 0}))
_SIZE = Column(nullable=True, optional=True, rule=("ge", {"min_value": 0}))
_TRAIT = Column(nullable=True)
_CLASS = Column(nullable=True, optional=True)
_VOLUMES = dict.fromkeys(("pre_synaptic_volume", "post_synaptic_volume", "synaptic_cleft_volume"), _VOLUME)

SYNAPSE_TABLE = TableSchema(
    "The synapse table",
    {
        "id": _ID,
        "pre_root_id": _ROOT,
        "post_root_id": _ROOT,
        "ctr_pos_x_vx": Column(),
        "ctr_pos_y_vx": Column(),
        "ctr_pos_z_vx": Column(),
    },
    key="id",
    may_be_empty=False,
    only_these=True,
)

_RAW_SIZES = ("cleft_size_vx", "presyn_soma_dist_um", "postsyn_soma_dist_um", "n_mitos_pre", "n_mitos_post")
ANNOTATION_TABLE = TableSchema(
    "The annotation table",
    {
        "syn_id": _ID,
        # A column that is missing says the same as one of empty cells: not measured.
        **dict.fromkeys((*_RAW_SIZES, "mito_size_pre_vx", "mito_size_post_vx"), _SIZE),
        **dict.fromkeys(("pre_cell_type", "post_cell_type"), _CLASS),
    },
    key="syn_id",
)

ANNOTATIONS = TableSchema(
    "The table of annotations",
    {
        "synapse_id": _ID,
        **dict.fromkeys(("cleft_size_log1p_zscore", "presyn_soma_dist_log1p_zscore"), _TRAIT),
        **dict.fromkeys(("postsyn_soma_dist_log1p_zscore", "n_mitos_pre", "n_mitos_post"), _TRAIT),
        # -inf: no mitochondrion
        "mito_size_pre_vx_log1p_zscore_zi": Column(nullable=True, finite=False),
        "mito_size_post_vx_log1p_zscore_zi": Column(nullable=True, finite=False),
        **dict.fromkeys(("pre_cell_type", "post_cell_type"), _TRAIT),
        **{
            name: Column(nullable=True, rule=("isin", {"allowed_values": [0, 1]}))
            for name in ("has_mito_pre", "has_mito_post")
        },
    },
    key="synapse_id",
)

PUBLISHED_METADATA = TableSchema(
    "The metadata of the published chunks",
    {"synapse_id": _ID, "filename": Column("text", unique=True), **_VOLUMES, "n_cutout_sections": _COUNT},
    key="synapse_id",
    may_be_empty=False,
    only_these=True,
)

SYNAPSE_METADATA = TableSchema(
    "The metadata of the chunks",
    {
        "synapse_id": _ID,
        "chunk_index": Column("integer", unique=True, rule=("ge", {"min_value": 0})),
        "pre_root_id": _ROOT,
        "post_root_id": _ROOT,
        **{f"centre_{axis}_nm": Column() for axis in "xyz"},
        **_VOLUMES,
        "n_cutout_sections": _COUNT,
        "n_padded_voxels": _COUNT,
        **{name: Column("flag") for name in ("is_padded", "is_pre_missing", "is_post_missing")},
        "is_autapse": Column("flag", optional=True),  # not known of metadata written before
    },
    key="synapse_id",
    may_be_empty=False,
)

ANNOTATION_SCALES = TableSchema(
    "The table of annotation scales",
    {
        "trait": Column("text", unique=True),
        "raw_column": Column("text"),
        "transform": Column("text", rule=("isin", {"allowed_values": ["log1p_zscore", "log1p_zscore_zi", "none"]})),
        "location": Column(nullable=True),  # not known of published annotations
        "scale": Column(nullable=True, rule=("gt", {"min_value": 0})),
        "n": _COUNT,
    },
)

REJECTED_SYNAPSES = TableSchema(
    "The table of rejected synapses", {"synapse_id": _ID, "reason": Column("text")}, key="synapse_id"
)

NEURITE_TABLE = TableSchema("The neurite table", {"root_id": Column("root_id", unique=True)})

SIMULATION_TRUTH = TableSchema(
    "The truth of the simulation", {"synapse_id": _ID, **{f"centre_{axis}_nm": Column() for axis in "xyz"}}
)


def check_published_metadata(table: pd.DataFrame, name: str) -> pd.DataFrame:
    """Check a ``meta.csv``; a :class:`TableError` names the file."""
    from dataclasses import replace

    return replace(PUBLISHED_METADATA, name=name).validate(table)
