"""Folds split by neurite, and the reasons why a trait cannot be split that way."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from synapseclr.errors import TableError
from synapseclr.volumes.traits import Trait, trait_values

Fold = tuple[np.ndarray, np.ndarray]
UNSCORED_COLUMNS = ("trait", "label", "n_annotated", "reason")
"""Columns of a table of traits that cannot be scored."""

_ATTEMPTS = 20


class UnscorableTraitError(Exception):
    """A trait that cannot be scored on these annotations; the message is the reason that the report lists."""


@dataclass(frozen=True)
class TraitSplit:
    """The annotated synapses of a trait and the folds over them.

    Attributes:
        trait: The trait.
        rows_a: int (a,): rows of the annotated synapses.
        target_a: float64 (a,): their values; 0.0 or 1.0 for classes.
        groups_a: int (a,): code of the neurite of each.
        folds: Pairs (train, test) of positions into the three arrays above.
    """

    trait: Trait
    rows_a: np.ndarray
    target_a: np.ndarray
    groups_a: np.ndarray
    folds: list[Fold]


def split_trait(annotations: pd.DataFrame, trait: Trait, n_folds: int, min_annotated: int, seed: int) -> TraitSplit:
    """Choose the synapses and folds on which a trait is scored.

    Args:
        annotations: One row per synapse, with the trait's columns and its group column.
        trait: The trait.
        n_folds: Folds wanted.
        min_annotated: Fewest annotated synapses that make a score worth having.
        seed: Seed of the folds.

    Returns:
        The split. It depends on annotations and seed alone, so that every representation is scored on the same folds.

    Raises:
        UnscorableTraitError: If the trait cannot be scored, with the reason.
        TableError: If the group column is absent.
    """
    if trait.name not in annotations:
        raise UnscorableTraitError("no such column in the annotations")
    values_n = trait_values(annotations, trait)
    rows_a = np.flatnonzero(~np.isnan(values_n))
    if len(rows_a) == 0:
        raise UnscorableTraitError("no synapse is annotated")
    if len(rows_a) < min_annotated:
        raise UnscorableTraitError(f"{len(rows_a)} annotated synapses, at least {min_annotated} needed")
    if trait.group not in annotations:
        raise TableError(f"Column '{trait.group}' is missing: folds for '{trait.name}' must be grouped by neurite.")
    target_a = values_n[rows_a]
    # factorize keeps 64-bit root ids exact; a detour through float would merge neurites.
    groups_a = pd.factorize(annotations[trait.group].to_numpy()[rows_a])[0]
    _check_target(trait, target_a, groups_a, n_folds)
    folds = grouped_folds(target_a, groups_a, trait.is_class, n_folds, seed)
    if folds is None:
        raise UnscorableTraitError(
            f"no {n_folds} folds by neurite hold both classes: {len(np.unique(groups_a))} neurites are too uneven"
        )
    return TraitSplit(trait, rows_a, target_a, groups_a, folds)


def _check_target(trait: Trait, target_a: np.ndarray, groups_a: np.ndarray, n_folds: int) -> None:
    n_groups = len(np.unique(groups_a))
    if n_groups < n_folds:
        raise UnscorableTraitError(f"{n_groups} annotated neurites, {n_folds} folds by neurite need at least {n_folds}")
    if trait.kind == "continuous":
        if np.ptp(target_a) == 0:
            raise UnscorableTraitError("all annotated values are equal")
        return
    unexpected = sorted(set(np.unique(target_a)) - {0.0, 1.0})
    if unexpected:
        raise UnscorableTraitError(f"values other than 0 and 1: {unexpected[:5]}")
    for value in (0.0, 1.0):
        name = trait.class_names[int(value)]
        n_groups = len(np.unique(groups_a[target_a == value]))
        if n_groups == 0:
            raise UnscorableTraitError(f"only one class: no synapse is annotated '{name}'")
        if n_groups < n_folds:
            raise UnscorableTraitError(f"class '{name}' occurs on {n_groups} neurites, {n_folds} folds need {n_folds}")


def grouped_folds(
    target_a: np.ndarray, groups_a: np.ndarray, is_class: bool, n_folds: int, seed: int
) -> list[Fold] | None:
    """Shuffled folds split by group, stratified by class for class traits.

    Args:
        target_a: float (a,).
        groups_a: int (a,).
        is_class: Whether every fold must hold both classes, in training and in test.
        n_folds: Number of folds.
        seed: Seed; further shuffles are drawn from it when a draw leaves a fold without one of the classes.

    Returns:
        Pairs (train, test) of positions; None if no draw could be found.
    """
    from sklearn.model_selection import GroupKFold, StratifiedGroupKFold

    for attempt in range(_ATTEMPTS):
        kind = StratifiedGroupKFold if is_class else GroupKFold
        splitter = kind(n_splits=n_folds, shuffle=True, random_state=seed + attempt)
        folds = [(train, test) for train, test in splitter.split(target_a, target_a, groups_a)]
        parts = [part for fold in folds for part in fold]
        if all(len(part) >= 2 and np.ptp(target_a[part]) > 0 for part in parts):
            return folds
    return None


def neurite_codes(obs: pd.DataFrame, column: str) -> np.ndarray:
    """Code of each synapse's neurite; every synapse counts as one of its own if the column is absent."""
    if column not in obs:
        return np.arange(len(obs))
    # factorize keeps 64-bit root ids exact.
    return np.asarray(pd.factorize(obs[column].to_numpy())[0])
