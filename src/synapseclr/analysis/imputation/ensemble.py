"""Several models of a trait as one prediction: the mixture of those that may speak, and its correction."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from synapseclr.analysis.config import GaussianProcessConfig
from synapseclr.analysis.gaussian_processes.models import FittedProcess, class_probability, classification, regression
from synapseclr.analysis.gaussian_processes.multiclass import FittedClasses, class_probabilities, multiclass
from synapseclr.analysis.traits.calibration import (
    BetaCalibration,
    SoftmaxCalibration,
    fit_beta_calibration,
    fit_softmax_calibration,
    fit_spread_correction,
)
from synapseclr.analysis.traits.folds import Fold, TraitSplit

_MIN_HELD_OUT = 20


@dataclass(frozen=True)
class Member:
    """Prediction of one model at every synapse: o outputs, one for numbers and two classes, else one a class.

    Attributes:
        mean_on: float64 (o, n): value, or probability of class 1, or of every class.
        variance_on: float64 (o, n): of the value with its noise, or of the probability.
        out_of_distribution_n: float64 (n,) in [0, 1].
        test_rows_b: int (b,): rows of the annotated synapses that the model did not see.
    """

    mean_on: np.ndarray
    variance_on: np.ndarray
    out_of_distribution_n: np.ndarray
    test_rows_b: np.ndarray


@dataclass(frozen=True)
class Prediction:
    """Prediction at every synapse; arrays float64 (o, n) as in :class:`Member`, ``sd_on`` its standard deviation.

    ``stated_mean_on`` and ``stated_sd_on`` are what the mixture said before it was corrected.
    """

    mean_on: np.ndarray
    sd_on: np.ndarray
    stated_mean_on: np.ndarray
    stated_sd_on: np.ndarray
    out_of_distribution_n: np.ndarray


@dataclass(frozen=True)
class MemberModel:
    """One model of a trait, for synapses that come later.

    Attributes:
        process: Given its training synapses.
        is_class: Whether it tells the probability of class 1, and not a value; of several classes it tells all.
        test_rows_b: As of :class:`Member`.
    """

    process: FittedProcess | FittedClasses
    is_class: bool
    test_rows_b: np.ndarray

    def predict(self, inputs_nr: np.ndarray) -> Member:
        """Predict synapses by their kernel inputs."""
        if isinstance(self.process, FittedClasses):
            found = self.process.posterior(inputs_nr)
            return Member(*class_probabilities(found), found.out_of_distribution_n, self.test_rows_b)
        posterior = self.process.posterior(inputs_nr)
        mean_n, variance_n = (
            class_probability(posterior)
            if self.is_class
            else (posterior.mean_on[0], posterior.variance_on[0] + posterior.noise)
        )
        return Member(mean_n[None], variance_n[None], posterior.out_of_distribution_n, self.test_rows_b)


def fit_member(
    inputs_nr: np.ndarray, split: TraitSplit, fold: Fold, config: GaussianProcessConfig, seed: int
) -> MemberModel:
    """Fit one model on the training synapses of a fold; their kernel inputs are rows of ``inputs_nr``."""
    train, test = fold
    train_ar, target_a = inputs_nr[split.rows_a[train]], split.target_a[train]
    process: FittedProcess | FittedClasses
    if split.is_multiclass:
        process = multiclass(train_ar, target_a, config, split.n_classes, seed)
    else:
        process = (classification if split.trait.is_class else regression)(train_ar, target_a, config, seed)
    return MemberModel(process, split.trait.is_class, split.rows_a[test])


def mixture(members: list[Member], rows_a: np.ndarray) -> Prediction:
    """Combine models: the mean of means, and the mean of second moments (as published).

    A synapse that is annotated is predicted only by the models that saw no annotation of its neurite, all others by
    every model.

    Args:
        members: One per repetition and fold.
        rows_a: Rows of the annotated synapses; empty where none of those that were predicted is annotated.
    """
    n = members[0].mean_on.shape[-1]
    weight_mn = np.ones((len(members), n))
    if len(rows_a):
        weight_mn[:, rows_a] = 0.0
        for weight_n, member in zip(weight_mn, members, strict=True):
            weight_n[member.test_rows_b] = 1.0
    weight_mn /= weight_mn.sum(axis=0)
    means_mon = np.stack([member.mean_on for member in members])
    seconds_mon = np.stack([member.variance_on for member in members]) + np.square(means_mon)
    mean_on = (weight_mn[:, None] * means_mon).sum(axis=0)
    sd_on = np.sqrt(np.maximum((weight_mn[:, None] * seconds_mon).sum(axis=0) - np.square(mean_on), 1e-12))
    ood_n = (weight_mn * np.stack([member.out_of_distribution_n for member in members])).sum(axis=0)
    return Prediction(mean_on, sd_on, mean_on, sd_on, ood_n)


def recalibrated(prediction: Prediction, split: TraitSplit, folds: list[Fold]) -> Prediction:
    """Correct probabilities (beta calibration; temperature and intercepts of several classes) or deviations (a factor).

    The correction of a fold is fitted on the held-out synapses of the other folds, that of synapses without annotation
    on all held-out synapses; so what is measured on held-out synapses is what the others get. With fewer than 20
    held-out synapses to fit on, nothing is corrected.
    """
    n = prediction.mean_on.shape[-1]
    everyone_n = np.ones(n, dtype=bool)
    everyone_n[split.rows_a] = False
    parts = [(np.arange(len(split.rows_a)), np.flatnonzero(everyone_n))]
    parts += [(train, split.rows_a[test]) for train, test in folds]
    mean_on, sd_on = prediction.mean_on.copy(), prediction.sd_on.copy()
    for fitted_on, rows in parts:
        correction = fit_correction(prediction, split, fitted_on)
        mean_on[:, rows], sd_on[:, rows] = correction.apply(prediction.mean_on[:, rows], prediction.sd_on[:, rows])
    return Prediction(
        mean_on, sd_on, prediction.stated_mean_on, prediction.stated_sd_on, prediction.out_of_distribution_n
    )


@dataclass(frozen=True)
class Correction:
    """Correction of stated probabilities or standard deviations.

    Attributes:
        calibration: Of probabilities; None: they are no probabilities, or stay as they are.
        factor: Of standard deviations of values.
    """

    calibration: BetaCalibration | SoftmaxCalibration | None = None
    factor: float = 1.0

    def apply(self, mean_ob: np.ndarray, sd_ob: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Corrected means and standard deviations."""
        if self.calibration is not None:
            return _corrected(mean_ob, sd_ob, self.calibration)
        return mean_ob, sd_ob * self.factor


def fit_correction(prediction: Prediction, split: TraitSplit, fitted_on: np.ndarray) -> Correction:
    """Fit on some of the held-out synapses, by their places among the annotated ones; fewer than 20 correct nothing."""
    if len(fitted_on) < _MIN_HELD_OUT:
        return Correction()
    held_out, target = split.rows_a[fitted_on], split.target_a[fitted_on]
    stated = prediction.mean_on[:, held_out]
    if not split.trait.is_class:
        return Correction(factor=fit_spread_correction(target - stated[0], prediction.sd_on[0, held_out]))
    groups = split.groups_a[fitted_on]
    if split.is_multiclass:
        return Correction(fit_softmax_calibration(stated, target, groups))
    return Correction(fit_beta_calibration(stated[0], target, groups))


def _corrected(
    mean_ob: np.ndarray, sd_ob: np.ndarray, correction: BetaCalibration | SoftmaxCalibration
) -> tuple[np.ndarray, np.ndarray]:
    """Corrected probability, and its standard deviation to first order."""
    probability_ob, gain_ob = correction.apply(mean_ob), correction.gain(mean_ob)
    # A probability cannot spread further than between 0 and 1.
    return probability_ob, np.minimum(sd_ob * gain_ob, np.sqrt(probability_ob * (1 - probability_ob)))
