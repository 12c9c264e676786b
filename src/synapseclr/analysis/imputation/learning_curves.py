"""Learning curves: how good the imputation of a trait is with few labels, and what further ones would bring."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np
import pandas as pd

from synapseclr.analysis.config import ImputationConfig
from synapseclr.analysis.gaussian_processes.kernels import inputs_of_rows, threads_for
from synapseclr.analysis.gaussian_processes.models import class_probability, fit_classes, fit_regression
from synapseclr.analysis.gaussian_processes.multiclass import class_probabilities, fit_multiclass
from synapseclr.analysis.representations import Features
from synapseclr.analysis.row_blocks import HERE, RowBlocksConfig
from synapseclr.analysis.traits import TRAITS, Trait
from synapseclr.analysis.traits.folds import TraitSplit, UnscorableTraitError, annotated_rows, split_trait
from synapseclr.analysis.traits.probes import fold_score
from synapseclr.volumes.table_schema import COUNT, METRIC, SHARE_RULE, TEXT, Column, TableSchema

logger = logging.getLogger(__name__)

LEARNING_CURVES = TableSchema(
    "The table of learning curves",
    {
        "trait": TEXT,
        "metric": METRIC,
        "fraction": Column(nullable=True, rule=SHARE_RULE),
        "repetition": COUNT,
        "n_train": COUNT,
        "n_test": COUNT,
        "score": Column(nullable=True, rule=("le", {"max_value": 1})),
        "reason": Column("text", nullable=True),
    },
)

LEARNING_COLUMNS = ("trait", "metric", "fraction", "repetition", "n_train", "n_test", "score", "reason")
_FEWEST = 4


def learning_curves(
    features_nf: Features,
    annotations: pd.DataFrame,
    config: ImputationConfig | None = None,
    traits: Sequence[Trait] = TRAITS,
    row_blocks: RowBlocksConfig = HERE,
) -> pd.DataFrame:
    """Fit on growing fractions of the annotated synapses, score on neurites that no model saw.

    Of ten folds by neurite, one is tested per repetition. Training synapses are drawn from the other nine; a larger
    fraction holds the synapses of the smaller ones.

    Args:
        features_nf: Shape (n, f), finite; or blocks.
        annotations: One row per synapse: traits and root ids.
        config: ``label_fractions`` (of the annotated synapses, published: 0.002 to 0.9), ``n_label_draws``, and the
            Gaussian processes.
        traits: Traits to score.
        row_blocks: Blocks of lazy features, of which the rows of annotated synapses are read.

    Returns:
        One row per trait, fraction and repetition. Where there were fewer than four training synapses, one class only,
        or no variation, ``score`` is NaN and ``reason`` says why; of a trait without folds there is one such row.
    """
    config = config or ImputationConfig()
    process = config.gaussian_processes
    rows_s = annotated_rows(annotations, traits)
    inputs_nr = inputs_of_rows(features_nf, rows_s, process, config.seed, row_blocks)
    annotations = annotations.iloc[rows_s]
    rows: list[tuple[object, ...]] = []
    from rich.progress import track
    from threadpoolctl import threadpool_limits

    with threadpool_limits(threads_for(len(rows_s), process)):
        for trait in track(traits if config.label_fractions else (), description="Learning curves"):
            try:
                split = _split(annotations, trait, config)
            except UnscorableTraitError as reason:
                rows.append((trait.name, trait.metric, np.nan, 0, 0, 0, np.nan, str(reason)))
                continue
            for repetition in range(min(config.n_label_draws, len(split.folds))):
                rows += _curve(inputs_nr, split, repetition, config)
    return pd.DataFrame(rows, columns=list(LEARNING_COLUMNS))


def _split(annotations: pd.DataFrame, trait: Trait, config: ImputationConfig) -> TraitSplit:
    """Ten folds; those of the imputation where there are too few neurites for ten, or for one of several classes."""
    try:
        split = split_trait(annotations, trait, max(10, config.n_folds), config.min_annotated, config.seed)
        if not split.left_out:
            return split
    except UnscorableTraitError:
        logger.debug("There are no ten folds of %s.", trait.name)
    return split_trait(annotations, trait, config.n_folds, config.min_annotated, config.seed)


def _curve(
    inputs_nr: np.ndarray, split: TraitSplit, repetition: int, config: ImputationConfig
) -> list[tuple[object, ...]]:
    train, test = split.folds[repetition]
    order = np.random.default_rng([config.seed, repetition]).permutation(train)
    rows: list[tuple[object, ...]] = []
    for fraction in sorted(config.label_fractions):
        # Where nine tenths cannot be had, the rest of the training synapses stands in for them.
        chosen = order[: max(1, round(fraction * len(split.rows_a)))]
        score, reason = np.nan, ""
        target_a = split.target_a[chosen]
        if len(chosen) < _FEWEST:
            reason = f"{len(chosen)} training synapses, at least {_FEWEST} needed"
        elif np.ptp(target_a) == 0:
            reason = "one class only" if split.trait.is_class else "all training values are equal"
        else:
            predicted_b = _predict(inputs_nr, split, chosen, test, config, config.seed + repetition)
            score = fold_score(split.trait.metric, split.target_a[test], predicted_b)
        trait = split.trait
        rows.append((trait.name, trait.metric, fraction, repetition, len(chosen), len(test), score, reason))
    return rows


def _predict(
    inputs_nr: np.ndarray, split: TraitSplit, chosen: np.ndarray, test: np.ndarray, config: ImputationConfig, seed: int
) -> np.ndarray:
    train_ar, test_br = inputs_nr[split.rows_a[chosen]], inputs_nr[split.rows_a[test]]
    if split.is_multiclass:
        found = fit_multiclass(
            train_ar, split.target_a[chosen], test_br, config.gaussian_processes, split.n_classes, seed
        )
        return class_probabilities(found)[0]
    fit = fit_classes if split.trait.is_class else fit_regression
    posterior = fit(train_ar, split.target_a[chosen], test_br, config.gaussian_processes, seed)
    return class_probability(posterior)[0] if split.trait.is_class else posterior.mean_on[0]


def summarise_learning_curves(curves: pd.DataFrame) -> pd.DataFrame:
    """Mean, standard deviation and number of repetitions per trait and fraction, of the scores that there are."""
    known = curves[np.isfinite(curves["score"].to_numpy(dtype=float))]
    grouped = known.groupby(["trait", "metric", "fraction"], sort=False)
    summary = grouped.agg(
        mean=("score", "mean"), std=("score", "std"), n=("score", "size"), n_train=("n_train", "mean")
    )
    return summary.reset_index().fillna({"std": 0.0})


def learning_curve_metrics(curves: pd.DataFrame) -> dict[str, float]:
    """Flatten to ``learning_curves/<trait>/<percent>_percent/<metric>``."""
    return {
        f"learning_curves/{row['trait']}/{100 * row['fraction']:g}_percent/{row['metric']}": float(row["mean"])
        for row in summarise_learning_curves(curves).to_dict("records")
    }
