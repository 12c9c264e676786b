"""Measured traits of synapses: from the raw annotation table to the columns that analyses use."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd

from synapseclr.volumes.tables import as_ids, check_columns

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
    non-zero ones, and zero, "no mitochondrion", becomes -inf.

    Args:
        raw: One row an annotated synapse, columns :data:`RAW_COLUMNS`; empty cells mean "not annotated". The table
            may have no rows.
        known_ids: Ids of the synapse table.

    Raises:
        TableError: If a column is missing, or ``syn_id`` is not a column of unique whole numbers.
    """
    if raw.empty:
        raw = raw.reindex(columns=[*raw.columns, *(c for c in RAW_COLUMNS if c not in raw.columns)])
        raw = raw.astype({"syn_id": "int64"})
    else:
        check_columns(raw, RAW_COLUMNS, "The annotation table")
    ids = as_ids(raw["syn_id"], "syn_id", "The annotation table")
    is_known = ids.isin(known_ids).to_numpy()
    kept = raw[is_known]
    traits = pd.DataFrame({"synapse_id": ids[is_known].astype("int64")})
    scales = []
    for column in _COLUMNS:
        values = pd.to_numeric(kept[column.raw], errors="coerce").astype("float64")
        transformed, location, scale = _transform(values, column.transform)
        traits[column.name] = transformed
        scales.append([column.name, column.raw, column.transform, location, scale, int(values.notna().sum())])
    for side in ("pre", "post"):
        counts = traits[f"n_mitos_{side}"]
        traits[f"has_mito_{side}"] = (counts > 0).astype("float64").where(counts.notna())
    return Annotations(
        traits.reset_index(drop=True),
        pd.DataFrame(scales, columns=["trait", "raw_column", "transform", "location", "scale", "n"]),
        [int(value) for value in ids[~is_known]],
    )


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
