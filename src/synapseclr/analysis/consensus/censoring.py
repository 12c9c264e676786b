"""Consensus typing where few synapses are annotated: measured on neurites without any annotation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from synapseclr.analysis.config import ConsensusConfig, ImputationConfig
from synapseclr.analysis.consensus.evaluation import EVALUATION_COLUMNS, evaluate_consensus
from synapseclr.analysis.consensus.posterior import CELL_TYPE_TRAITS, neurite_posteriors, trait_evidence
from synapseclr.analysis.feature_blocks import Features
from synapseclr.analysis.gaussian_processes.features import kernel_inputs
from synapseclr.analysis.gaussian_processes.models import fit_classes
from synapseclr.analysis.gaussian_processes.posterior import class_probability
from synapseclr.analysis.traits import Trait, trait_values
from synapseclr.analysis.traits.correction import fit_beta_calibration
from synapseclr.analysis.traits.folds import UnscorableTraitError, grouped_folds

CENSORED_COLUMNS = ("fraction", "n_labels", "n_seeds", *EVALUATION_COLUMNS)
FAILED_COLUMNS = ("fraction", "seed", "n_labels", "reason")
_MIN_FITTED = 20
_TESTED_COLUMNS = ("root_id", "n_synapses", "target", "probability", "independent_probability", "synapse_accuracy")


@dataclass(frozen=True)
class CensoredConsensus:
    """What consensus typing reaches with few labels.

    Attributes:
        evaluation: One row per label fraction, stratum and method, as in
            :func:`~synapseclr.analysis.consensus.evaluation.evaluate_consensus`, over the neurites of all seeds; the
            intervals draw neurites, with all of their seeds.
        neurites: One row per fraction, seed and neurite that was tested.
        failed: Draws that could not be evaluated, with the reason.
    """

    evaluation: pd.DataFrame
    neurites: pd.DataFrame
    failed: pd.DataFrame


def evaluate_censored(
    features_nf: Features,
    annotations: pd.DataFrame,
    consensus: ConsensusConfig | None = None,
    imputation: ImputationConfig | None = None,
    truth: pd.DataFrame | None = None,
) -> CensoredConsensus:
    """Hide all but a fraction of the annotations, type neurites from what is left, and compare.

    A synapse is labelled on both of its sides or on none. Models are fitted on labelled synapses in folds by neurite:
    a labelled neurite is predicted by the models that saw no label of it, for the recalibration and for the
    correction of shared errors; all others, those that are tested, by the mean of the models.

    Args:
        features_nf: Shape (n, f), finite; or blocks.
        annotations: One row per synapse: ``synapse_id``, root ids, cell types.
        consensus: Label fractions (of the ``n`` synapses), seeds, strata.
        imputation: Folds and the Gaussian processes.
        truth: Cell types to test against, rows as in ``annotations``, where they are known for more synapses; by
            default the annotations themselves.

    Returns:
        The evaluation.
    """
    consensus, imputation = consensus or ConsensusConfig(), imputation or ImputationConfig()
    truth = annotations if truth is None else truth
    process = imputation.gaussian_processes
    inputs_nr = kernel_inputs(features_nf, process.n_inputs, imputation.seed)
    tested, failed = [], []
    n_labels: dict[float, int] = {}
    for fraction in consensus.label_fractions:
        for seed in range(consensus.n_label_seeds):
            labelled_n = _draw(annotations, fraction, seed)
            n_labels[fraction] = int(labelled_n.sum())
            try:
                evidence = _evidence(inputs_nr, annotations, labelled_n, imputation, seed)
                tested.append(_test(evidence, truth, consensus).assign(fraction=fraction, seed=seed))
            except UnscorableTraitError as reason:
                failed.append((fraction, seed, n_labels[fraction], str(reason)))
    columns = ["fraction", "seed", "root_id", "n_synapses", "target", "probability", "independent_probability"]
    neurites = pd.concat(tested, ignore_index=True) if tested else pd.DataFrame(columns=[*columns, "synapse_accuracy"])
    rows = []
    for fraction in consensus.label_fractions:
        of_one = neurites[neurites["fraction"] == fraction]
        if len(of_one):
            counts = {"n_labels": n_labels[fraction], "n_seeds": of_one["seed"].nunique()}
            rows.append(evaluate_consensus(of_one, consensus).assign(fraction=fraction, **counts))
    evaluation = pd.concat(rows, ignore_index=True) if rows else pd.DataFrame(columns=list(CENSORED_COLUMNS))
    return CensoredConsensus(
        evaluation[list(CENSORED_COLUMNS)], neurites, pd.DataFrame(failed, columns=list(FAILED_COLUMNS))
    )


def _draw(annotations: pd.DataFrame, fraction: float, seed: int) -> np.ndarray:
    """Labelled synapses, bool (n,): a fraction of all, drawn from those with a cell type on any side."""
    known_n = np.zeros(len(annotations), dtype=bool)
    for trait in CELL_TYPE_TRAITS:
        known_n |= np.isfinite(trait_values(annotations, trait))
    rows = np.flatnonzero(known_n)
    n_drawn = min(len(rows), max(1, round(fraction * len(annotations))))
    labelled_n = np.zeros(len(annotations), dtype=bool)
    labelled_n[np.random.default_rng([seed, len(rows)]).permutation(rows)[:n_drawn]] = True
    return labelled_n


def _evidence(
    inputs_nr: np.ndarray, annotations: pd.DataFrame, labelled_n: np.ndarray, config: ImputationConfig, seed: int
) -> pd.DataFrame:
    """Evidence of every synapse for both of its neurites; ``target`` on all synapses of labelled neurites."""
    parts, reasons = [], []
    for trait in CELL_TYPE_TRAITS:
        target_n = np.where(labelled_n, trait_values(annotations, trait), np.nan)
        neurite_n = pd.factorize(annotations[trait.group].to_numpy())[0]
        try:
            probability_n = _censored_probability(inputs_nr, target_n, neurite_n, trait, config, seed)
        except UnscorableTraitError as reason:
            reasons.append(f"{trait.label}: {reason}")
            continue
        evidence = trait_evidence(annotations, trait, probability_n, target_n)
        parts.append(evidence.assign(target=_neurite_targets(target_n, neurite_n)))
    if not parts:
        raise UnscorableTraitError("; ".join(reasons))
    return pd.concat(parts, ignore_index=True)


def _neurite_targets(target_n: np.ndarray, neurite_n: np.ndarray) -> np.ndarray:
    """The label of a neurite's labelled synapses at all of its synapses; NaN where there is none."""
    means_u = pd.Series(target_n).groupby(neurite_n).mean()
    targets_n: np.ndarray = means_u.reindex(neurite_n).to_numpy()
    return targets_n


def _censored_probability(
    inputs_nr: np.ndarray,
    target_n: np.ndarray,
    neurite_n: np.ndarray,
    trait: Trait,
    config: ImputationConfig,
    seed: int,
) -> np.ndarray:
    """Recalibrated probability of class 1 at every synapse, from models that saw no label of its neurite."""
    rows_a = np.flatnonzero(np.isfinite(target_n))
    target_a, groups_a = target_n[rows_a], neurite_n[rows_a]
    if np.ptp(target_a) == 0 if len(target_a) else True:
        raise UnscorableTraitError(f"only one class among {len(target_a)} labels")
    folds = (
        grouped_folds(target_a, groups_a, True, config.n_folds, seed)
        if _has_folds(target_a, groups_a, config)
        else None
    )
    if folds is None:
        raise UnscorableTraitError(f"{len(target_a)} labels cannot be split into {config.n_folds} folds by neurite")
    probability_kn, is_labelled_kn = [], []
    for train, test in folds:
        posterior = fit_classes(
            inputs_nr[rows_a[train]], target_a[train], inputs_nr, config.gaussian_processes, config.seed + seed
        )
        probability_kn.append(class_probability(posterior)[0])
        is_labelled_kn.append(np.isin(neurite_n, groups_a[test]))
    stated_kn, test_kn = np.stack(probability_kn), np.stack(is_labelled_kn)
    # Every labelled neurite is in the test part of one fold.
    stated_n = np.where(test_kn.any(axis=0), (stated_kn * test_kn).sum(axis=0), stated_kn.mean(axis=0))
    if len(rows_a) < _MIN_FITTED:
        return stated_n
    corrected_n = fit_beta_calibration(stated_n[rows_a], target_a, groups_a).apply(stated_n)
    for train, test in folds:
        chosen_n = np.isin(neurite_n, groups_a[test])
        correction = fit_beta_calibration(stated_n[rows_a[train]], target_a[train], groups_a[train])
        corrected_n[chosen_n] = correction.apply(stated_n[chosen_n])
    return corrected_n


def _has_folds(target_a: np.ndarray, groups_a: np.ndarray, config: ImputationConfig) -> bool:
    return all(len(np.unique(groups_a[target_a == value])) >= config.n_folds for value in (0.0, 1.0))


def _test(evidence: pd.DataFrame, truth: pd.DataFrame, config: ConsensusConfig) -> pd.DataFrame:
    """Posteriors of the neurites without a label whose type is known, beside the truth and their single synapses."""
    posteriors, _, _ = neurite_posteriors(evidence, config)
    known = _known_types(truth)
    unlabelled = posteriors["annotated_type"].isna() & posteriors["root_id"].isin(known.index)
    tested = posteriors[unlabelled].assign(target=lambda table: known.reindex(table["root_id"]).to_numpy())
    if tested.empty:
        raise UnscorableTraitError("every neurite of known type is labelled")
    says_one = (evidence["probability"] > 0.5).astype(float)
    is_right = (says_one == known.reindex(evidence["root_id"]).to_numpy()).astype(float)
    accuracy = is_right.groupby(evidence["root_id"].to_numpy()).mean()
    return tested[list(_TESTED_COLUMNS[:-1])].assign(synapse_accuracy=accuracy.reindex(tested["root_id"]).to_numpy())


def _known_types(truth: pd.DataFrame, traits: Sequence[Trait] = CELL_TYPE_TRAITS) -> pd.Series:
    """Cell type by root id, of neurites whose annotated synapses agree."""
    parts = [pd.Series(trait_values(truth, trait), index=truth[trait.group].to_numpy()) for trait in traits]
    together = pd.concat(parts).dropna()
    means = together.groupby(level=0).mean()
    return means[means.isin((0.0, 1.0))]
