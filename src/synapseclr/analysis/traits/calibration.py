"""Calibration of stated probabilities and intervals: its errors, and corrections fitted on held-out synapses."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

_LIMIT = 1e-6
_MOST_DRAWN_GROUPS = 2**18
_DRAWN_AT_ONCE = 2**22  # groups of bootstrap samples in memory: 100 MB
_Z_50, _Z_90 = 0.6744897501960817, 1.6448536269514722
LEVELS = {50: _Z_50, 90: _Z_90}
"""Nominal coverage in percent to half the width of the interval, in standard deviations of a normal distribution."""


def reliability_table(probability_a: np.ndarray, target_a: np.ndarray, n_bins: int = 10) -> pd.DataFrame:
    """Stated probability against observed frequency, in equally full bins.

    Args:
        probability_a: Stated probabilities of class 1.
        target_a: 0.0 or 1.0.
        n_bins: Bins wanted; there are at most as many as synapses.

    Returns:
        One row per bin: ``probability`` (mean), ``frequency``, ``n``, and ``lower`` and ``upper``, the 90 % interval of
        the frequency (Wilson 1927; it takes synapses as independent).
    """
    order_a = np.argsort(probability_a, kind="stable")
    rows = []
    for part in np.array_split(order_a, min(n_bins, len(order_a))):
        n, frequency = len(part), float(target_a[part].mean())
        centre = (frequency + _Z_90**2 / (2 * n)) / (1 + _Z_90**2 / n)
        half = _Z_90 / (1 + _Z_90**2 / n) * np.sqrt(frequency * (1 - frequency) / n + _Z_90**2 / (4 * n**2))
        rows.append((float(probability_a[part].mean()), frequency, n, max(0.0, centre - half), min(1.0, centre + half)))
    return pd.DataFrame(rows, columns=["probability", "frequency", "n", "lower", "upper"])


def expected_calibration_error(probability_a: np.ndarray, target_a: np.ndarray, n_bins: int = 10) -> float:
    """Mean absolute difference of stated probability and frequency over equally full bins, weighted by their size."""
    table = reliability_table(probability_a, target_a, n_bins)
    return float(np.average((table["probability"] - table["frequency"]).abs(), weights=table["n"]))


def debiased_calibration_error(
    probability_a: np.ndarray, target_a: np.ndarray, n_bins: int = 10, groups_a: np.ndarray | None = None
) -> float:
    """Root mean squared calibration error over equally full bins, without the part that chance adds to it.

    The square of a bin's difference is larger than that of the true difference by the variance of its frequency, which
    is estimated and taken off. The plain error is positive even for perfect probabilities, and the more so the fewer
    synapses there are; the square of this one is zero on average (below zero it is given as 0). With ``groups_a`` the
    variance is that of clustered observations: synapses of a neurite share their cell type, so that 400 synapses of 60
    neurites say little more than 60 synapses would.

    Source: Kumar et al. 2019, https://arxiv.org/abs/1909.10155 (section 5, the debiased estimator, p = 2).
    """
    surplus_a = target_a - probability_a
    groups_a = np.arange(len(target_a)) if groups_a is None else groups_a
    total, weight = 0.0, 0
    for part in np.array_split(np.argsort(probability_a, kind="stable"), min(n_bins, len(probability_a))):
        _, codes_b = np.unique(groups_a[part], return_inverse=True)
        n_groups = int(codes_b.max()) + 1
        if n_groups < 2:
            continue
        mean = surplus_a[part].mean()
        sums_g = np.bincount(codes_b, weights=surplus_a[part] - mean)
        by_chance = np.square(sums_g).sum() / len(part) ** 2 * n_groups / (n_groups - 1)
        total += len(part) * (mean**2 - by_chance)
        weight += len(part)
    return float(np.sqrt(max(0.0, total / weight))) if weight else float("nan")


def calibration_error_by_chance(
    probability_a: np.ndarray,
    n_bins: int = 10,
    n_draws: int = 200,
    seed: int = 0,
    groups_a: np.ndarray | None = None,
) -> float:
    """The calibration error that perfectly calibrated probabilities would show at this number of synapses.

    With 40 synapses a bin, chance alone makes about 0.05; more if labels are shared.

    Args:
        probability_a: Stated probabilities.
        n_bins: Equally full bins.
        n_draws: Sets of labels drawn from the stated probabilities, whose mean error is returned.
        seed: Seed of the draws.
        groups_a: Synapses that share one label, such as the cell type of their neurite; None: none do.
    """
    order_a = np.argsort(probability_a, kind="stable")
    sorted_a = probability_a[order_a]
    codes_a = np.arange(len(sorted_a)) if groups_a is None else np.unique(groups_a[order_a], return_inverse=True)[1]
    drawn_sg = np.random.default_rng(seed).random((n_draws, int(codes_a.max()) + 1))
    surplus_sa = (drawn_sg[:, codes_a] < sorted_a) - sorted_a
    starts_k = [part[0] for part in np.array_split(np.arange(len(sorted_a)), min(n_bins, len(sorted_a)))]
    return float(np.abs(np.add.reduceat(surplus_sa, starts_k, axis=1)).sum(axis=1).mean() / len(sorted_a))


def grouped_interval(
    values_a: np.ndarray, groups_a: np.ndarray, level: float = 0.9, n_draws: int = 1000, seed: int = 0
) -> tuple[float, float]:
    """Interval of a mean by the bootstrap over groups, because synapses of a neurite are not independent.

    Args:
        values_a: float (a,).
        groups_a: int (a,): what is drawn together.
        level: Nominal coverage.
        n_draws: Bootstrap samples.
        seed: Seed of the samples.

    Returns:
        Lower and upper end. Of more than 262,144 groups it is the bootstrap's limit, a normal distribution with the
        variance of a ratio of sums.
    """
    _, codes_a = np.unique(groups_a, return_inverse=True)
    sums_g, counts_g = np.bincount(codes_a, weights=values_a), np.bincount(codes_a)
    n_groups = len(sums_g)
    if n_groups > _MOST_DRAWN_GROUPS:
        from scipy.special import ndtri

        mean = float(sums_g.sum() / counts_g.sum())
        deviation = float(np.sqrt(np.square(sums_g - mean * counts_g).sum()) / counts_g.sum())
        half = float(ndtri((1 + level) / 2)) * deviation
        return mean - half, mean + half
    rng, means_s = np.random.default_rng(seed), np.empty(n_draws)
    step = max(1, _DRAWN_AT_ONCE // n_groups)
    for first in range(0, n_draws, step):  # the same stream of draws, whatever the step
        draws_sg = rng.integers(0, n_groups, (min(step, n_draws - first), n_groups))
        means_s[first : first + step] = sums_g[draws_sg].sum(axis=1) / counts_g[draws_sg].sum(axis=1)
    lower, upper = np.quantile(means_s, [(1 - level) / 2, (1 + level) / 2])
    return float(lower), float(upper)


def calibration_of_classes(
    probability_a: np.ndarray, target_a: np.ndarray, groups_a: np.ndarray, n_bins: int = 10
) -> dict[str, float]:
    """Calibration error (with the part that chance alone would make), log loss, Brier score and accuracy.

    Where all synapses of every group have the same label, chance draws labels by group.
    """
    shared_a = groups_a if is_shared(target_a, groups_a) else None
    clipped_a = np.clip(probability_a, _LIMIT, 1 - _LIMIT)
    is_right_a = ((probability_a > 0.5) == (target_a == 1.0)).astype(float)
    lower, upper = grouped_interval(is_right_a, groups_a)
    return {
        "expected_calibration_error": expected_calibration_error(probability_a, target_a, n_bins),
        "debiased_calibration_error": debiased_calibration_error(probability_a, target_a, n_bins, groups_a),
        "calibration_error_by_chance": calibration_error_by_chance(probability_a, n_bins, groups_a=shared_a),
        "log_loss": float(-np.log(np.where(target_a == 1.0, clipped_a, 1 - clipped_a)).mean()),
        "brier_score": float(np.square(probability_a - target_a).mean()),
        "accuracy": float(is_right_a.mean()),
        "accuracy_lower_90": lower,
        "accuracy_upper_90": upper,
    }


def calibration_of_several(
    probability_ka: np.ndarray, target_a: np.ndarray, groups_a: np.ndarray, n_bins: int = 10
) -> dict[str, float]:
    """The same for several classes: calibration errors are means over the classes, each against all others.

    Args:
        probability_ka: float (k, a).
        target_a: Codes 0 to k - 1.
        groups_a: Neurite of each.
        n_bins: Equally full bins.

    Returns:
        Measures by the names of :func:`calibration_of_classes`, and ``balanced_accuracy``. The Brier score is the sum
        over classes.
    """
    codes_k = np.unique(target_a).astype(int)
    each = [
        calibration_of_classes(probability_ka[code], (target_a == code).astype(float), groups_a, n_bins)
        for code in codes_k
    ]
    means = {name: float(np.mean([measures[name] for measures in each])) for name in each[0] if "calibration" in name}
    own_a = np.clip(probability_ka[target_a.astype(int), np.arange(len(target_a))], _LIMIT, 1.0)
    is_right_a = (probability_ka.argmax(axis=0) == target_a).astype(float)
    lower, upper = grouped_interval(is_right_a, groups_a)
    return means | {
        "log_loss": float(-np.log(own_a).mean()),
        "brier_score": float(sum(measures["brier_score"] for measures in each)),
        "accuracy": float(is_right_a.mean()),
        "accuracy_lower_90": lower,
        "accuracy_upper_90": upper,
        "balanced_accuracy": float(np.mean([is_right_a[target_a == code].mean() for code in codes_k])),
    }


def calibration_of_intervals(error_a: np.ndarray, sd_a: np.ndarray, groups_a: np.ndarray) -> dict[str, float]:
    """Coverage of the central 50 and 90 % intervals, with its 90 % interval, and the root mean squared z-score."""
    z_a = error_a / sd_a
    found = {"z_score_rms": float(np.sqrt(np.square(z_a).mean()))}
    for level, half_width in LEVELS.items():
        is_covered_a = (np.abs(z_a) <= half_width).astype(float)
        lower, upper = grouped_interval(is_covered_a, groups_a)
        found |= {
            f"coverage_{level}": float(is_covered_a.mean()),
            f"coverage_{level}_lower_90": lower,
            f"coverage_{level}_upper_90": upper,
        }
    return found


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
    """Test that all synapses of every neurite have the same label, as they have the same cell type."""
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


@dataclass(frozen=True)
class SoftmaxCalibration:
    """``p_k -> softmax(slope ln(p_k) + bias_k)``: a temperature and one intercept a class.

    Source: Guo et al. 2017, https://arxiv.org/abs/1706.04599 (temperature and vector scaling).
    """

    slope: float
    bias_k: np.ndarray

    def apply(self, probability_kn: np.ndarray) -> np.ndarray:
        """Corrected probabilities, float64 (k, n)."""
        corrected_kn: np.ndarray = np.exp(_log_softmax(self._logits(probability_kn)))
        return corrected_kn

    def _logits(self, probability_kn: np.ndarray) -> np.ndarray:
        logits_kn: np.ndarray = self.slope * np.log(np.clip(probability_kn, _LIMIT, 1.0)) + self.bias_k[:, None]
        return logits_kn

    def gain(self, probability_kn: np.ndarray) -> np.ndarray:
        """Change of each corrected probability with its own stated one, the others in proportion, float64 (k, n)."""
        clipped_kn = np.clip(probability_kn, _LIMIT, 1.0 - _LIMIT)
        corrected_kn = self.apply(probability_kn)
        gain_kn: np.ndarray = self.slope * corrected_kn * (1.0 - corrected_kn) / (clipped_kn * (1.0 - clipped_kn))
        return gain_kn


def fit_softmax_calibration(
    probability_ka: np.ndarray, target_a: np.ndarray, groups_a: np.ndarray | None = None
) -> SoftmaxCalibration:
    """Fit by penalised maximum likelihood, with the penalty and the weights of :func:`fit_beta_calibration`.

    Args:
        probability_ka: Held-out probabilities.
        target_a: Codes 0 to k - 1.
        groups_a: Neurite of each; see there.
    """
    from scipy.optimize import minimize

    log_ka = np.log(np.clip(probability_ka, _LIMIT, 1.0))
    is_class_ka = target_a == np.arange(len(log_ka))[:, None]
    weight_a = np.ones(len(target_a))
    if groups_a is not None and is_shared(target_a, groups_a):
        _, codes_a, counts_g = np.unique(groups_a, return_inverse=True, return_counts=True)
        weight_a = 1.0 / counts_g[codes_a]

    def loss(parameters: np.ndarray) -> tuple[float, np.ndarray]:
        slope, bias_k = parameters[0], parameters[1:]
        log_probability_ka = _log_softmax(slope * log_ka + bias_k[:, None])
        surplus_ka = weight_a * (np.exp(log_probability_ka) - is_class_ka)
        value = -(weight_a * log_probability_ka[is_class_ka.argmax(axis=0), np.arange(len(target_a))]).sum()
        value += _PENALTY * ((slope - 1.0) ** 2 + 0.25 * np.square(bias_k).sum())
        gradient = np.concatenate([[(surplus_ka * log_ka).sum()], surplus_ka.sum(axis=1)])
        gradient += _PENALTY * np.concatenate([[2.0 * (slope - 1.0)], 0.5 * bias_k])
        return float(value), gradient

    start = np.concatenate([[1.0], np.zeros(len(log_ka))])
    bounds = [(0.0, 20.0)] + [(-20.0, 20.0)] * len(log_ka)
    found = minimize(loss, start, jac=True, bounds=bounds, method="L-BFGS-B").x
    return SoftmaxCalibration(float(found[0]), np.asarray(found[1:], dtype=float))


def _log_softmax(logits_kn: np.ndarray) -> np.ndarray:
    shifted_kn = logits_kn - logits_kn.max(axis=0)
    log_probability_kn: np.ndarray = shifted_kn - np.log(np.exp(shifted_kn).sum(axis=0))
    return log_probability_kn


def fit_spread_correction(error_a: np.ndarray, sd_a: np.ndarray) -> float:
    """Factor on standard deviations that gives held-out errors a mean square of one standard deviation.

    One pseudo-observation with the stated spread keeps the factor finite for few synapses.
    """
    return float(np.sqrt((np.square(error_a / sd_a).sum() + 1.0) / (len(error_a) + 1.0)))
