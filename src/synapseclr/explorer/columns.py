"""What synapses can be coloured and filtered by."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd

from synapseclr.analysis.traits import TRAITS, trait_values
from synapseclr.volumes.synapse_ids import table_rows

MAX_CLASSES = 40
_NOT_COLOURED = ("synapse_id", "chunk_index", "pre_root_id", "post_root_id", "cleft_id")
_SIDES = {"pre": "presynaptic", "post": "postsynaptic"}


@dataclass(frozen=True)
class Column:
    """One value per synapse.

    Attributes:
        name: Unique, as it stands in addresses.
        label: For people.
        group: Heading under which it is listed.
        values_n: float32 (n,), NaN where there is none; of classes the index into ``class_names``.
        class_names: Empty for continuous values.
    """

    name: str
    label: str
    group: str
    values_n: np.ndarray
    class_names: tuple[str, ...] = ()


def observed_columns(obs: pd.DataFrame) -> Iterator[Column]:
    """Annotated traits, then classes such as clusters, then the metadata's numbers.

    Args:
        obs: One row per synapse.

    Yields:
        Those that any synapse has.
    """
    for trait in TRAITS:
        values_n = trait_values(obs, trait)
        if np.isfinite(values_n).any():
            yield Column(trait.name, trait.label, "Annotated", values_n.astype(np.float32), trait.class_names)
    traits = {trait.name for trait in TRAITS}
    for name in map(str, obs.columns):
        if name not in traits and name not in _NOT_COLOURED:
            column = _from_series(obs[name], name)
            if column is not None:
                yield column


def _from_series(series: pd.Series, name: str, group: str | None = None) -> Column | None:
    label = name.replace("_", " ")
    if pd.api.types.is_bool_dtype(series):
        return Column(name, label, group or "Metadata", series.to_numpy(np.float32), ("no", "yes"))
    is_text = not pd.api.types.is_numeric_dtype(series)
    if is_text or "cluster" in name:
        found = series.astype("category")
        if not 1 <= len(found.cat.categories) <= MAX_CLASSES:
            return None
        codes_n = found.cat.codes.to_numpy(np.float32)
        names = tuple(str(value) for value in found.cat.categories)
        group = group or ("Clusters" if "cluster" in name else "Metadata")
        return Column(name, label, group, np.where(codes_n < 0, np.nan, codes_n).astype(np.float32), names)
    values_n = series.to_numpy(np.float32, na_value=np.nan)
    values_n = np.where(np.isfinite(values_n), values_n, np.nan)
    return Column(name, label, group or "Metadata", values_n) if np.isfinite(values_n).any() else None


def imputed_columns(imputed: pd.DataFrame, synapse_id: np.ndarray) -> Iterator[Column]:
    """Imputed traits, how uncertain each is, and how far from the annotated synapses.

    Args:
        imputed: The table ``imputed_traits``.
        synapse_id: int64 (n,).
    """
    rows = table_rows(imputed, synapse_id)
    of_kind: dict[str, list[Column]] = {"Imputed": [], "Uncertainty": [], "Out of distribution": []}
    for trait in TRAITS:
        suffixes = ("probability", "probability_sd") if trait.kind == "class" else ("mean", "sd")
        said = f"P({trait.label} is {trait.class_names[1]})" if trait.kind == "class" else trait.label
        labels = (said, f"{trait.label}, uncertainty", f"{trait.label}, unlike the annotated")
        for group, suffix, label in zip(of_kind, (*suffixes, "out_of_distribution"), labels, strict=True):
            name = f"{trait.name}_{suffix}"
            if name in rows:
                of_kind[group].append(Column(name, label, group, rows[name].to_numpy(np.float32)))
    for columns in of_kind.values():
        yield from columns


def score_columns(scores: pd.DataFrame, synapse_id: np.ndarray) -> Iterator[Column]:
    """Outlier score and what it is made of.

    Args:
        scores: The table ``outlier_scores``.
        synapse_id: int64 (n,).
    """
    rows = table_rows(scores, synapse_id)
    for name, label in (
        ("score", "outlier score"),
        ("unsupervised", "unusualness"),
        ("likeness", "likeness to examples"),
    ):
        if name in rows and rows[name].notna().any():
            yield Column(f"outlier_{name}", label, "Outliers", rows[name].to_numpy(np.float32))


def consensus_columns(neurites: pd.DataFrame, obs: pd.DataFrame) -> Iterator[Column]:
    """Probability of each synapse's neurites to be inhibitory, from all of their synapses.

    Args:
        neurites: The table ``neurite_cell_types``: ``root_id``, ``probability``.
        obs: ``pre_root_id``, ``post_root_id``.
    """
    of_neurite = neurites.drop_duplicates("root_id").set_index("root_id")["probability"]
    for side, adjective in _SIDES.items():
        if f"{side}_root_id" in obs:
            values_n = of_neurite.reindex(obs[f"{side}_root_id"].to_numpy()).to_numpy(np.float32)
            if np.isfinite(values_n).any():
                label = f"P({adjective} neurite is inhibitory)"
                yield Column(f"consensus_{side}_probability", label, "Consensus", values_n)


def table_columns(table: pd.DataFrame, synapse_id: np.ndarray, group: str) -> Iterator[Column]:
    """Columns of any further table by synapse.

    Args:
        table: With ``synapse_id``.
        synapse_id: int64 (n,).
        group: Heading.
    """
    rows = table_rows(table, synapse_id)
    for name in map(str, rows.columns):
        column = _from_series(rows[name], name, group)
        if column is not None and name not in _NOT_COLOURED:
            yield column
