"""Measured traits of synapses: from the raw annotation table to the columns that analyses use."""

from __future__ import annotations

import difflib
import logging
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd

from synapseclr.errors import TableError
from synapseclr.volumes.table_schema import COUNT, ID, Column, TableSchema, strip_names

logger = logging.getLogger(__name__)
Transform = Literal["log1p_zscore", "log1p_zscore_zi", "none"]


@dataclass(frozen=True)
class _Column:
    raw: str
    name: str
    transform: Transform


_COLUMNS = (
    _Column("cleft_size_vx", "cleft_size_log1p_zscore", "log1p_zscore"),
    _Column("presyn_soma_dist_um", "presyn_soma_dist_log1p_zscore", "log1p_zscore"),
    _Column("postsyn_soma_dist_um", "postsyn_soma_dist_log1p_zscore", "log1p_zscore"),
    _Column("mito_size_pre_vx", "mito_size_pre_vx_log1p_zscore_zi", "log1p_zscore_zi"),
    _Column("mito_size_post_vx", "mito_size_post_vx_log1p_zscore_zi", "log1p_zscore_zi"),
    _Column("n_mitos_pre", "n_mitos_pre", "none"),
    _Column("n_mitos_post", "n_mitos_post", "none"),
    _Column("pre_cell_type", "pre_cell_type", "none"),
    _Column("post_cell_type", "post_cell_type", "none"),
)
RAW_COLUMNS = ["syn_id", *(column.raw for column in _COLUMNS)]
TRAIT_COLUMNS = [*(column.name for column in _COLUMNS), "has_mito_pre", "has_mito_post"]

_SIZE = Column(nullable=True, optional=True, rule=("ge", {"min_value": 0}))
_TRAIT = Column(nullable=True)
_CLASS = Column(nullable=True, optional=True)
_RAW_SIZES = ("cleft_size_vx", "presyn_soma_dist_um", "postsyn_soma_dist_um", "n_mitos_pre", "n_mitos_post")
ANNOTATION_TABLE = TableSchema(
    "The annotation table",
    {
        "syn_id": ID,
        # A column that is missing says the same as one of empty cells: not measured.
        **dict.fromkeys((*_RAW_SIZES, "mito_size_pre_vx", "mito_size_post_vx"), _SIZE),
        **dict.fromkeys(("pre_cell_type", "post_cell_type"), _CLASS),
    },
    key="syn_id",
)

ANNOTATIONS = TableSchema(
    "The table of annotations",
    {
        "synapse_id": ID,
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

ANNOTATION_SCALES = TableSchema(
    "The table of annotation scales",
    {
        "trait": Column("text", unique=True),
        "raw_column": Column("text"),
        "transform": Column("text", rule=("isin", {"allowed_values": ["log1p_zscore", "log1p_zscore_zi", "none"]})),
        "location": Column(nullable=True),  # not known of published annotations
        "scale": Column(nullable=True, rule=("gt", {"min_value": 0})),
        "n": COUNT,
    },
)


@dataclass(frozen=True)
class Annotations:
    """Transformed traits.

    Attributes:
        traits: ``synapse_id`` and :data:`TRAIT_COLUMNS`, float64; NaN where a trait was not annotated, -inf for the
            size of a mitochondrion that is not there.
        scales: ``trait, raw_column, transform, location, scale, n``: what undoes each transform.
        unknown_ids: Annotated synapses that the synapse table does not have; left out of ``traits``.
    """

    traits: pd.DataFrame
    scales: pd.DataFrame
    unknown_ids: list[int]


def transform_annotations(raw: pd.DataFrame, known_ids: pd.Series) -> Annotations:
    """Give annotations the published form.

    Continuous traits become z-scores of log1p; sizes of mitochondria are zero-inflated: their z-score is over the
    non-zero ones, and zero, "no mitochondrion", becomes -inf. A table that has the published form already
    (``meta_ext.csv``) is taken as it is; its locations and scales are not known, and NaN.

    Args:
        raw: One row an annotated synapse, columns :data:`RAW_COLUMNS`; empty cells mean "not annotated". The table
            may have no rows. Or ``synapse_id`` and :data:`TRAIT_COLUMNS`. A trait without a column was not annotated.
        known_ids: Ids of the synapse table.

    Raises:
        TableError: If a column is missing, ids are not unique whole numbers, or a value is not a number.
    """
    checked = check_annotation_table(raw)
    is_transformed = "syn_id" not in checked
    ids = checked["synapse_id" if is_transformed else "syn_id"]
    is_known = ids.isin(known_ids).to_numpy()
    kept = checked[is_known].reset_index(drop=True)
    traits = pd.DataFrame({"synapse_id": ids[is_known].to_numpy("int64")})
    scales = []
    for column in _COLUMNS:
        values = kept[column.name if is_transformed else column.raw].astype("float64")
        if is_transformed:
            undoes = (0.0, 1.0) if column.transform == "none" else (np.nan, np.nan)
            traits[column.name], location, scale = values, *undoes
        else:
            traits[column.name], location, scale = _transform(values, column.transform)
        scales.append([column.name, column.raw, column.transform, location, scale, int(values.notna().sum())])
    for side in ("pre", "post"):
        counts = traits[f"n_mitos_{side}"]
        present = (counts > 0).astype("float64").where(counts.notna())
        if is_transformed:
            present = kept[f"has_mito_{side}"].astype("float64").fillna(present)
        traits[f"has_mito_{side}"] = present
    return Annotations(
        traits,
        pd.DataFrame(scales, columns=["trait", "raw_column", "transform", "location", "scale", "n"]),
        [int(value) for value in ids[~is_known]],
    )


def check_annotation_table(table: pd.DataFrame) -> pd.DataFrame:
    """Check an annotation table, raw or in the published form, and give its columns their types.

    A trait whose column is missing was not measured, as if its cells were empty. Further columns are left out, and
    those that might be meant for a trait are named in the log.

    Raises:
        TableError: If the ids' column is missing, the table has rows but no trait at all, ids are not unique whole
            numbers, or a value is not a number.
    """
    table = strip_names(table, {"synapse_id", *TRAIT_COLUMNS, *RAW_COLUMNS})
    is_transformed = "syn_id" not in table and "synapse_id" in table
    schema, traits = (ANNOTATIONS, TRAIT_COLUMNS) if is_transformed else (ANNOTATION_TABLE, RAW_COLUMNS[1:])
    if table.empty and not is_transformed:
        table = table.reindex(columns=list(dict.fromkeys([*table.columns, "syn_id"]))).astype({"syn_id": "int64"})
    has_ids = is_transformed or "syn_id" in table
    absent = [name for name in traits if name not in table]
    further = [str(name) for name in table.columns if name not in schema.columns]
    if len(table) and len(absent) == len(traits) and has_ids:
        raise TableError(
            f"{schema.name} has no column of a trait; it has {', '.join(map(str, table.columns))}. Known traits are "
            f"{', '.join(traits)}; give those that were measured."
        )
    for name in absent:
        alike = difflib.get_close_matches(name, further, n=1, cutoff=0.75)
        if alike:
            logger.warning(
                "%s has the column %s, which is left out; the trait %s, which it lacks, counts as not measured. If it "
                "is that trait, rename it.",
                schema.name,
                alike[0],
                name,
            )
    if has_ids:
        table = table.assign(**dict.fromkeys(absent, np.nan))
    return schema.validate(table)


def _transform(values: pd.Series, transform: Transform) -> tuple[pd.Series, float, float]:
    if transform == "none":
        return values, 0.0, 1.0
    logs = np.log1p(values)
    measured = logs[values > 0] if transform == "log1p_zscore_zi" else logs.dropna()
    location = float(measured.mean()) if len(measured) else 0.0
    scale = float(measured.std(ddof=0)) if len(measured) > 1 else 1.0
    scores = (logs - location) / (scale or 1.0)
    if transform == "log1p_zscore_zi":
        scores = scores.mask(values == 0, -np.inf)
    return scores, location, scale or 1.0
