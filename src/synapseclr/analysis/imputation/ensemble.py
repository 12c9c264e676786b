"""Several models of a trait as one prediction: the mixture of those that may speak, and its correction."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from synapseclr.analysis.config import GaussianProcessConfig
from synapseclr.analysis.gaussian_processes.models import class_probability, fit_classes, fit_regression
from synapseclr.analysis.traits.calibration import BetaCalibration, fit_beta_calibration, fit_spread_correction
from synapseclr.analysis.traits.folds import Fold, TraitSplit

_MIN_HELD_OUT = 20


@dataclass(frozen=True)
class Member:
    """Prediction of one model at every synapse.

    Attributes:
        mean_n: float64 (n,): value, or probability of class 1.
        variance_n: float64 (n,): of the value with its noise, or of the probability.
        out_of_distribution_n: float64 (n,) in [0, 1].
        test_rows_b: int (b,): rows of the annotated synapses that the model did not see.
    """

    mean_n: np.ndarray
    variance_n: np.ndarray
    out_of_distribution_n: np.ndarray
    test_rows_b: np.ndarray


@dataclass(frozen=True)
class Prediction:
    """Prediction at every synapse; arrays float64 (n,) as in :class:`Member`, ``sd_n`` its standard deviation.

    ``stated_mean_n`` and ``stated_sd_n`` are what the mixture said before it was corrected.
    """

    mean_n: np.ndarray
    sd_n: np.ndarray
    stated_mean_n: np.ndarray
    stated_sd_n: np.ndarray
    out_of_distribution_n: np.ndarray


def fit_member(
    inputs_nr: np.ndarray, split: TraitSplit, fold: Fold, config: GaussianProcessConfig, seed: int
) -> Member:
    """Fit one model on the training synapses of a fold, and predict every synapse."""
    train, test = fold
    is_class = split.trait.is_class
    fit = fit_classes if is_class else fit_regression
    posterior = fit(inputs_nr[split.rows_a[train]], split.target_a[train], inputs_nr, config, seed)
    mean_n, variance_n = (
        class_probability(posterior) if is_class else (posterior.mean_on[0], posterior.variance_on[0] + posterior.noise)
    )
    return Member(mean_n, variance_n, posterior.out_of_distribution_n, split.rows_a[test])


def mixture(members: list[Member], rows_a: np.ndarray) -> Prediction:
    """Combine models: the mean of means, and the mean of second moments (as published).

    A synapse that is annotated is predicted only by the models that saw no annotation of its neurite, all others by
    every model.

    Args:
        members: One per repetition and fold.
        rows_a: Rows of the annotated synapses.
    """
    n = len(members[0].mean_n)
    weight_mn = np.ones((len(members), n))
    weight_mn[:, rows_a] = 0.0
    for weight_n, member in zip(weight_mn, members, strict=True):
        weight_n[member.test_rows_b] = 1.0
    weight_mn /= weight_mn.sum(axis=0)
    means_mn = np.stack([member.mean_n for member in members])
    seconds_mn = np.stack([member.variance_n for member in members]) + np.square(means_mn)
    mean_n = (weight_mn * means_mn).sum(axis=0)
    sd_n = np.sqrt(np.maximum((weight_mn * seconds_mn).sum(axis=0) - np.square(mean_n), 1e-12))
    ood_n = (weight_mn * np.stack([member.out_of_distribution_n for member in members])).sum(axis=0)
    return Prediction(mean_n, sd_n, mean_n, sd_n, ood_n)


def recalibrated(prediction: Prediction, split: TraitSplit, folds: list[Fold]) -> Prediction:
    """Correct probabilities (beta calibration) or standard deviations (a factor).

    The correction of a fold is fitted on the held-out synapses of the other folds, that of synapses without annotation
    on all held-out synapses; so what is measured on held-out synapses is what the others get. With fewer than 20
    held-out synapses to fit on, nothing is corrected.
    """
    is_class = split.trait.is_class
    n = len(prediction.mean_n)
    everyone_n = np.ones(n, dtype=bool)
    everyone_n[split.rows_a] = False
    parts = [(np.arange(len(split.rows_a)), np.flatnonzero(everyone_n))]
    parts += [(train, split.rows_a[test]) for train, test in folds]
    mean_n, sd_n = prediction.mean_n.copy(), prediction.sd_n.copy()
    for fitted_on, rows in parts:
        if len(fitted_on) < _MIN_HELD_OUT:
            continue
        held_out, target = split.rows_a[fitted_on], split.target_a[fitted_on]
        if is_class:
            correction = fit_beta_calibration(prediction.mean_n[held_out], target, split.groups_a[fitted_on])
            mean_n[rows], sd_n[rows] = _corrected(prediction.mean_n[rows], prediction.sd_n[rows], correction)
        else:
            error = target - prediction.mean_n[held_out]
            sd_n[rows] = prediction.sd_n[rows] * fit_spread_correction(error, prediction.sd_n[held_out])
    return Prediction(mean_n, sd_n, prediction.stated_mean_n, prediction.stated_sd_n, prediction.out_of_distribution_n)


def _corrected(mean_b: np.ndarray, sd_b: np.ndarray, correction: BetaCalibration) -> tuple[np.ndarray, np.ndarray]:
    """Corrected probability, and its standard deviation to first order."""
    probability_b, gain_b = correction.apply(mean_b), correction.gain(mean_b)
    # A probability cannot spread further than between 0 and 1.
    return probability_b, np.minimum(sd_b * gain_b, np.sqrt(probability_b * (1 - probability_b)))
