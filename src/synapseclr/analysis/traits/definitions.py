"""The annotated traits of a synapse: what each one means, how it is scored, and what must not leak between folds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd

from synapseclr.errors import TableError

Metric = Literal["roc_auc", "explained_variance"]


@dataclass(frozen=True)
class Trait:
    """One column of the annotation table.

    Attributes:
        name: Column name, as published.
        label: The name for people, as it stands on axes.
        kind: ``class`` (0.0 or 1.0) or ``continuous``; NaN means not annotated in both.
        side: The neurite that the trait belongs to; None for a trait of the cleft.
        group: Column whose values must not be split between training and test synapses. Synapses of a neurite share
            their cell type, so that a probe which recognises the neurite would otherwise look as if it knew the type.
        class_names: Names of 0.0 and 1.0; empty for continuous traits.
        conditioned_on: Class column that must be 1.0 for the trait to exist (no mitochondrion has no size).
    """

    name: str
    label: str
    kind: Literal["class", "continuous"]
    side: Literal["pre", "post"] | None
    group: str
    class_names: tuple[str, ...] = ()
    conditioned_on: str | None = None

    @property
    def metric(self) -> Metric:
        """ROC AUC for classes, explained variance for continuous traits, as published."""
        return "roc_auc" if self.kind == "class" else "explained_variance"


_CELL_TYPES = ("excitatory", "inhibitory")
_MITOCHONDRIA = ("none", "at least one")

TRAITS: tuple[Trait, ...] = (
    Trait("cleft_size_log1p_zscore", "cleft size", "continuous", None, "pre_root_id"),
    Trait("presyn_soma_dist_log1p_zscore", "presynaptic soma distance", "continuous", "pre", "pre_root_id"),
    Trait("postsyn_soma_dist_log1p_zscore", "postsynaptic soma distance", "continuous", "post", "post_root_id"),
    Trait(
        "mito_size_pre_vx_log1p_zscore_zi",
        "presynaptic mitochondria size",
        "continuous",
        "pre",
        "pre_root_id",
        conditioned_on="has_mito_pre",
    ),
    Trait(
        "mito_size_post_vx_log1p_zscore_zi",
        "postsynaptic mitochondria size",
        "continuous",
        "post",
        "post_root_id",
        conditioned_on="has_mito_post",
    ),
    Trait("pre_cell_type", "presynaptic cell type", "class", "pre", "pre_root_id", _CELL_TYPES),
    Trait("post_cell_type", "postsynaptic cell type", "class", "post", "post_root_id", _CELL_TYPES),
    Trait("has_mito_pre", "presynaptic mitochondria", "class", "pre", "pre_root_id", _MITOCHONDRIA),
    Trait("has_mito_post", "postsynaptic mitochondria", "class", "post", "post_root_id", _MITOCHONDRIA),
)
"""The nine scored traits, in the order of the published table."""


def trait_named(name: str) -> Trait:
    """Find a trait by its column name.

    Raises:
        TableError: If there is no such trait.
    """
    for trait in TRAITS:
        if trait.name == name:
            return trait
    raise TableError(f"Unknown trait '{name}'. Known traits: {', '.join(trait.name for trait in TRAITS)}.")


def trait_values(annotations: pd.DataFrame, trait: Trait) -> np.ndarray:
    """Values of a trait, with everything that is no measurement turned into NaN.

    Args:
        annotations: One row per synapse.
        trait: The trait to read.

    Returns:
        float64 (n,): NaN where the synapse is not annotated, where the conditioning trait is not 1, and for -inf, which
        stands for "no mitochondrion" in the zero-inflated columns. NaN everywhere if the column is absent.
    """
    values_n = _column(annotations, trait.name)
    if trait.conditioned_on is not None:
        values_n = np.where(_column(annotations, trait.conditioned_on) == 1.0, values_n, np.nan)
    return np.where(np.isfinite(values_n), values_n, np.nan)


def _column(annotations: pd.DataFrame, name: str) -> np.ndarray:
    if name not in annotations:
        return np.full(len(annotations), np.nan)
    values_n: np.ndarray = annotations[name].astype("float64").to_numpy()
    return values_n
