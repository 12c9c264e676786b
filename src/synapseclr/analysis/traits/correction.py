"""Corrections of stated probabilities and standard deviations, fitted on what was held out."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

_LIMIT = 1e-6
_PENALTY = 0.3


@dataclass(frozen=True)
class BetaCalibration:
    """``logit(p) -> a ln(p) - b ln(1 - p) + c``; the default changes nothing.

    With ``a = b`` it is a slope and an intercept of the log-odds (Platt 1999). Apart, they bend low and high
    probabilities differently: where features tell that a synapse is of class 0, but never that it is surely of class 1,
    frequencies level off however high the stated probabilities are.

    Source: Kull, Silva Filho & Flach 2017, https://proceedings.mlr.press/v54/kull17a.html.
    """

    a: float = 1.0
    b: float = 1.0
    c: float = 0.0

    def apply(self, probability_n: np.ndarray) -> np.ndarray:
        """Corrected probabilities, float64 (n,)."""
        clipped_n = np.clip(probability_n, _LIMIT, 1.0 - _LIMIT)
        corrected_n: np.ndarray = 1.0 / (
            1.0 + np.exp(-(self.a * np.log(clipped_n) - self.b * np.log1p(-clipped_n) + self.c))
        )
        return corrected_n

    def gain(self, probability_n: np.ndarray) -> np.ndarray:
        """Derivative of the corrected by the stated probability, float64 (n,)."""
        clipped_n = np.clip(probability_n, _LIMIT, 1.0 - _LIMIT)
        corrected_n = self.apply(probability_n)
        gain_n: np.ndarray = corrected_n * (1.0 - corrected_n) * (self.a / clipped_n + self.b / (1.0 - clipped_n))
        return gain_n


def logit(probability_a: np.ndarray) -> np.ndarray:
    """Log-odds, with probabilities kept 1e-6 away from 0 and 1."""
    clipped_a = np.clip(probability_a, _LIMIT, 1.0 - _LIMIT)
    log_odds_a: np.ndarray = np.log(clipped_a) - np.log1p(-clipped_a)
    return log_odds_a


def is_shared(target_a: np.ndarray, groups_a: np.ndarray) -> bool:
    """Whether all synapses of every neurite have the same label, as they have the same cell type."""
    _, first_g, codes_a = np.unique(groups_a, return_index=True, return_inverse=True)
    return bool((target_a == target_a[first_g][codes_a]).all())


def fit_beta_calibration(
    probability_a: np.ndarray, target_a: np.ndarray, groups_a: np.ndarray | None = None
) -> BetaCalibration:
    """Fit by penalised maximum likelihood.

    The penalty, ``0.3 (((a - 1)^2 + (b - 1)^2) / 2 + c^2 / 4)``, is worth a few synapses: few held-out synapses change
    little. It lies between what is best for sixty neurites (0.1 of 0.1, 0.3 and 1, by the error on unseen simulated
    volumes) and for twenty synapses (3 of 0.1, 0.3, 1 and 3, by the log loss on drawn labels). Neither a nor b is
    negative, so that the order of probabilities stays.

    Args:
        probability_a: Held-out probabilities of class 1.
        target_a: 0.0 or 1.0.
        groups_a: Neurite of each. If labels are shared within neurites, every neurite counts as one observation:
            twenty synapses of one neurite are one label seen twenty times. None: every synapse counts.
    """
    from scipy.optimize import minimize

    clipped_a = np.clip(probability_a, _LIMIT, 1.0 - _LIMIT)
    inputs_ak = np.column_stack([np.log(clipped_a), -np.log1p(-clipped_a), np.ones(len(clipped_a))])
    sign_a = np.where(target_a == 1.0, 1.0, -1.0)
    weight_a = np.ones(len(clipped_a))
    if groups_a is not None and is_shared(target_a, groups_a):
        _, codes_a, counts_g = np.unique(groups_a, return_inverse=True, return_counts=True)
        weight_a = 1.0 / counts_g[codes_a]

    def loss(parameters_k: np.ndarray) -> float:
        likelihood = (weight_a * np.logaddexp(0.0, -sign_a * (inputs_ak @ parameters_k))).sum()
        a, b, c = parameters_k
        return float(likelihood + _PENALTY * (0.5 * ((a - 1.0) ** 2 + (b - 1.0) ** 2) + 0.25 * c**2))

    start, bounds = np.array([1.0, 1.0, 0.0]), [(0.0, 20.0), (0.0, 20.0), (-20.0, 20.0)]
    return BetaCalibration(*(float(value) for value in minimize(loss, start, bounds=bounds, method="L-BFGS-B").x))


def fit_spread_correction(error_a: np.ndarray, sd_a: np.ndarray) -> float:
    """Factor on standard deviations that gives held-out errors a mean square of one standard deviation.

    One pseudo-observation with the stated spread keeps the factor finite for few synapses.
    """
    return float(np.sqrt((np.square(error_a / sd_a).sum() + 1.0) / (len(error_a) + 1.0)))
