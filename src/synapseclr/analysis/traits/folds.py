"""Folds split by neurite, and the reasons why a trait cannot be split that way."""

from __future__ import annotations

from collections.abc import Sequence
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
        target_a: float64 (a,): their values; for classes positions in ``class_names``.
        groups_a: int (a,): code of the neurite of each.
        folds: Pairs (train, test) of positions into the three arrays above.
        class_names: Classes that take part; empty for numbers.
        left_out: Classes of a multi-class trait that do not: name, number of synapses, reason.
    """

    trait: Trait
    rows_a: np.ndarray
    target_a: np.ndarray
    groups_a: np.ndarray
    folds: list[Fold]
    class_names: tuple[str, ...] = ()
    left_out: tuple[tuple[str, int, str], ...] = ()

    @property
    def n_classes(self) -> int:
        """Classes that take part; 0 for numbers."""
        return len(self.class_names)

    @property
    def is_multiclass(self) -> bool:
        """A prediction is one probability for every class, instead of that of class 1."""
        return self.trait.kind == "multiclass"

    def unscored_rows(self) -> list[tuple[str, str, int, str]]:
        """Rows of the table of what is not scored: one for each class that is left out."""
        name, label = self.trait.name, self.trait.label
        return [(f"{name}: {of_class}", f"{label}: {of_class}", n, reason) for of_class, n, reason in self.left_out]


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
    class_names: tuple[str, ...] = trait.class_names
    left_out: tuple[tuple[str, int, str], ...] = ()
    if trait.kind == "multiclass":
        class_names, left_out, kept = _frequent_classes(trait, target_a, groups_a, n_folds)
        rows_a, groups_a = rows_a[kept], groups_a[kept]
        target_a = np.searchsorted([trait.classes.index(name) for name in class_names], target_a[kept]).astype(float)
        if len(rows_a) < min_annotated:
            raise UnscorableTraitError(f"{len(rows_a)} synapses of frequent classes, at least {min_annotated} needed")
    _check_target(trait, target_a, groups_a, n_folds)
    folds = grouped_folds(target_a, groups_a, trait.is_class, n_folds, seed)
    if folds is None:
        raise UnscorableTraitError(
            f"no {n_folds} folds by neurite hold {'all' if len(class_names) > 2 else 'both'} classes: "
            f"{len(np.unique(groups_a))} neurites are too uneven"
        )
    return TraitSplit(trait, rows_a, target_a, groups_a, folds, class_names, left_out)


def _frequent_classes(
    trait: Trait, target_a: np.ndarray, groups_a: np.ndarray, n_folds: int
) -> tuple[tuple[str, ...], tuple[tuple[str, int, str], ...], np.ndarray]:
    """Classes on as many neurites as there are folds, the others with the reason, and the synapses of the former."""
    kept_k, left_out = [], []
    for code, name in enumerate(trait.classes):
        is_member_a = target_a == code
        n_groups = len(np.unique(groups_a[is_member_a]))
        if n_groups >= n_folds:
            kept_k.append(code)
        else:
            told = f"class '{name}' occurs on {n_groups} neurites, {n_folds} folds need {n_folds}; it is left out"
            left_out.append((name, int(is_member_a.sum()), told))
    if len(kept_k) < 2:
        raise UnscorableTraitError(
            f"{len(kept_k)} of {len(trait.classes)} classes occur on {n_folds} neurites or more, two are needed"
        )
    names = tuple(trait.classes[code] for code in kept_k)
    return names, tuple(left_out), np.flatnonzero(np.isin(target_a, kept_k))


def _check_target(trait: Trait, target_a: np.ndarray, groups_a: np.ndarray, n_folds: int) -> None:
    n_groups = len(np.unique(groups_a))
    if n_groups < n_folds:
        raise UnscorableTraitError(f"{n_groups} annotated neurites, {n_folds} folds by neurite need at least {n_folds}")
    if not trait.is_class:
        if np.ptp(target_a) == 0:
            raise UnscorableTraitError("all annotated values are equal")
        return
    if trait.kind == "multiclass":
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
        is_class: Whether every fold must hold all classes in training, and two of them in test.
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
        is_varied = all(len(part) >= 2 and np.ptp(target_a[part]) > 0 for part in parts)
        if is_varied and (not is_class or all(_holds_all(target_a, train) for train, _ in folds)):
            return folds
    return None


def _holds_all(target_a: np.ndarray, part: np.ndarray) -> bool:
    return len(np.unique(target_a[part])) == len(np.unique(target_a))


def annotated_rows(annotations: pd.DataFrame, traits: Sequence[Trait]) -> np.ndarray:
    """Rows of the synapses that are annotated with any of some traits, int (s,), ascending."""
    is_annotated_n = np.zeros(len(annotations), bool)
    for trait in traits:
        if trait.name in annotations:
            is_annotated_n |= ~np.isnan(trait_values(annotations, trait))
    return np.flatnonzero(is_annotated_n)


def neurite_codes(obs: pd.DataFrame, column: str) -> np.ndarray:
    """Code of each synapse's neurite; every synapse counts as one of its own if the column is absent."""
    if column not in obs:
        return np.arange(len(obs))
    # factorize keeps 64-bit root ids exact.
    return np.asarray(pd.factorize(obs[column].to_numpy())[0])
