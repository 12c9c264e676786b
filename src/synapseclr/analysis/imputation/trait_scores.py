"""Scores of every representation, layer, trait, probe and fold, as one tidy table."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from synapseclr.analysis.config import ImputationConfig
from synapseclr.analysis.gaussian_processes.kernels import kernel_inputs
from synapseclr.analysis.gaussian_processes.models import class_probability, fit_classes, fit_regression
from synapseclr.analysis.gaussian_processes.multiclass import class_probabilities, fit_multiclass
from synapseclr.analysis.representations import FeatureBlocks, Features, check_blocks
from synapseclr.analysis.traits import TRAITS, Trait, trait_values
from synapseclr.analysis.traits.folds import UNSCORED_COLUMNS, TraitSplit, UnscorableTraitError, split_trait
from synapseclr.analysis.traits.probes import (
    balanced_accuracy,
    best_linear_probe,
    fold_coordinates,
    fold_score,
    knn_probe,
)
from synapseclr.errors import TableError
from synapseclr.volumes.table_schema import COUNT, METRIC, SCORE, SHARE_RULE, TEXT, Column, TableSchema

TRAIT_SCORES = TableSchema(
    "The table of trait scores",
    {
        **dict.fromkeys(("representation", "layer", "trait", "probe"), TEXT),
        "metric": METRIC,
        "fold": COUNT,
        "score": SCORE,
        "n_train": COUNT,
        "n_test": COUNT,
        "balanced_accuracy": Column(nullable=True, optional=True, rule=SHARE_RULE),
    },
)

UNSCORED_TRAITS = TableSchema(
    "The table of traits without a score",
    {"trait": Column("text", unique=True), "label": TEXT, "n_annotated": COUNT, "reason": TEXT},
)

logger = logging.getLogger(__name__)
SCORE_COLUMNS = (
    "representation",
    "layer",
    "trait",
    "probe",
    "metric",
    "fold",
    "score",
    "n_train",
    "n_test",
    "balanced_accuracy",
)
Representations = Mapping[str, Mapping[str, Features]]
_SEEDS_APART = 1000  # a draw that leaves a fold without a class is repeated with the next seeds
BLOCK_WEIGHTS = (1.0, 0.25, 4.0)
"""Weights of the second block of features against the first that the linear probe chooses from."""


def score_representations(
    representations: Representations,
    annotations: pd.DataFrame,
    config: ImputationConfig | None = None,
    traits: Sequence[Trait] = TRAITS,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Score how well traits can be read off representations.

    Args:
        representations: Representation name to layer name to features (n, f), rows in the order of ``annotations``.
        annotations: One row per synapse: traits (NaN where not annotated) and root ids.
        config: Folds, probes and seeds.
        traits: Traits to score.

    Returns:
        The scores, one row per representation, layer, trait, probe (linear, knn, and gaussian_process unless that is
        switched off) and fold, which are counted on over the draws; and the traits that could not be scored, with the
        number of annotated synapses and the reason. Every trait is in just one of the tables; a class that is left out
        of one with several, because it occurs on fewer neurites than there are folds, is among the latter.

    Raises:
        TableError: If features and annotations do not have the same number of rows.
        SynapseCLRError: If features are not finite.
    """
    config = config or ImputationConfig()
    _check_rows(representations, annotations)
    splits, unscored = _split_all(annotations, traits, config)
    from rich.progress import track
    from threadpoolctl import threadpool_limits

    rows = []
    layers = [(name, layer, features) for name, found in representations.items() for layer, features in found.items()]
    # The matrices are small: threads of the linear algebra libraries cost more than they bring.
    with threadpool_limits(1):
        steps = [(layer, split) for layer in layers for split in splits]
        for (representation, layer, features_nf), (draw, split) in track(steps, description="Scoring traits"):
            for row in _score_split(features_nf, split, config, draw):
                rows.append({"representation": representation, "layer": layer, **row})
    return pd.DataFrame(rows, columns=list(SCORE_COLUMNS)), pd.DataFrame(unscored, columns=list(UNSCORED_COLUMNS))


def _check_rows(representations: Representations, annotations: pd.DataFrame) -> None:
    for representation, layers in representations.items():
        for layer, features_nf in layers.items():
            if len(features_nf) != len(annotations):
                raise TableError(
                    f"Representation '{representation}', layer '{layer}', has {len(features_nf)} rows, the annotations "
                    f"have {len(annotations)}: run the embedding again on these synapses."
                )
            check_blocks(features_nf, f"{representation}/{layer}")


def _split_all(
    annotations: pd.DataFrame, traits: Sequence[Trait], config: ImputationConfig
) -> tuple[list[tuple[int, TraitSplit]], list[dict[str, object]]]:
    """Every trait's split for every draw of the folds, with the draw's number; and the traits without a split."""
    splits, unscored = [], []
    for trait in traits:
        try:
            for draw in range(config.n_fold_draws):
                seed = config.seed + _SEEDS_APART * draw
                split = split_trait(annotations, trait, config.n_folds, config.min_annotated, seed)
                splits.append((draw, split))
            unscored += [dict(zip(UNSCORED_COLUMNS, row, strict=True)) for row in split.unscored_rows()]
        except UnscorableTraitError as reason:
            n_annotated = int(np.isfinite(trait_values(annotations, trait)).sum())
            unscored.append(
                {"trait": trait.name, "label": trait.label, "n_annotated": n_annotated, "reason": str(reason)}
            )
    return splits, unscored


def _score_split(
    features_nf: Features, split: TraitSplit, config: ImputationConfig, draw: int
) -> list[dict[str, object]]:
    """Scores of the probes on every fold of one trait; Gaussian processes on the folds of the first draw only."""
    is_class, n_classes = split.trait.is_class, split.n_classes if split.is_multiclass else 0
    features_af = features_nf[split.rows_a]
    has_process = config.compare_by_gaussian_process and draw == 0
    if has_process:
        inputs_ar = kernel_inputs(features_af, config.gaussian_processes.n_inputs, config.seed)
    rows: list[dict[str, object]] = []
    for fold, (train, test) in enumerate(split.folds):
        has_blocks = isinstance(features_af, FeatureBlocks)
        coordinates = [
            fold_coordinates(features_af[train], features_af[test], (1.0, weight) if has_blocks else None)
            for weight in (BLOCK_WEIGHTS if has_blocks else (1.0,))
        ]
        target_a, groups_a = split.target_a[train], split.groups_a[train]
        predictions = {
            "linear": best_linear_probe(
                coordinates, target_a, is_class, groups_a, config.penalties, config.seed, n_classes
            ),
            "knn": _neighbours(coordinates[0], target_a, n_classes, config.n_neighbours),
        }
        if has_process:
            predictions["gaussian_process"] = _gaussian_process(inputs_ar, target_a, train, test, split, config)
        for probe, predicted_b in predictions.items():
            rows.append(
                {
                    "trait": split.trait.name,
                    "probe": probe,
                    "metric": split.trait.metric,
                    "fold": draw * config.n_folds + fold,
                    "score": fold_score(split.trait.metric, split.target_a[test], predicted_b),
                    "n_train": len(train),
                    "n_test": len(test),
                    "balanced_accuracy": balanced_accuracy(split.target_a[test], predicted_b) if n_classes else np.nan,
                }
            )
    return rows


def _neighbours(
    coordinates: tuple[np.ndarray, np.ndarray], target_a: np.ndarray, n_classes: int, n_neighbours: int
) -> np.ndarray:
    """Mean of the nearest training synapses, (b,), or their shares of several classes, (k, b)."""
    train_ar, test_br = coordinates
    if not n_classes:
        return knn_probe(train_ar, target_a, test_br, n_neighbours)
    return knn_probe(train_ar, np.eye(n_classes)[target_a.astype(int)], test_br, n_neighbours).T


def _gaussian_process(
    inputs_ar: np.ndarray,
    target_a: np.ndarray,
    train: np.ndarray,
    test: np.ndarray,
    split: TraitSplit,
    config: ImputationConfig,
) -> np.ndarray:
    """Predicted value, probability of class 1, or of all; the mean of training synapses where the fit breaks down."""
    from linear_operator.utils.errors import NanError, NotPSDError
    from torch.linalg import LinAlgError

    fit = fit_classes if split.trait.is_class else fit_regression
    try:
        if split.is_multiclass:
            inputs = (inputs_ar[train], target_a, inputs_ar[test])
            found = fit_multiclass(*inputs, config.gaussian_processes, split.n_classes, config.seed)
            return class_probabilities(found)[0]
        posterior = fit(inputs_ar[train], target_a, inputs_ar[test], config.gaussian_processes, config.seed)
    except (NanError, NotPSDError, LinAlgError) as error:
        logger.warning("A Gaussian process could not be fitted (%s); its fold is scored as the mean.", error)
        if split.is_multiclass:
            share_k = np.bincount(target_a.astype(int), minlength=split.n_classes) / len(target_a)
            return np.repeat(share_k[:, None], len(test), axis=1)
        return np.full(len(test), target_a.mean())
    return class_probability(posterior)[0] if split.trait.is_class else posterior.mean_on[0]
