"""Probes on one fold: how well a trait can be read off a representation, linearly or from neighbours."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from synapseclr.analysis.representations import Features, blocks_of
from synapseclr.analysis.traits.folds import grouped_folds
from synapseclr.volumes.traits import Metric

_INNER_FOLDS = 3
_LEAST_LOG_PROBABILITY = -700.0


def fold_coordinates(
    train_af: Features, test_bf: Features, weights: Sequence[float] | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Standardise by the training synapses and turn into their principal axes.

    The axes span every training synapse, so distances among them, and every model with an L2 penalty, stay what they
    are in the full space; what shrinks is the number of columns, from f to at most a. Constant features become zero.
    Vectors are divided by sqrt(f), so that penalties mean the same for every width; blocks are so each, and then
    multiplied by their weights.

    Args:
        train_af: Shape (a, f), or blocks.
        test_bf: Shape (b, f), or the same blocks.
        weights: One for each block; None: the same for all.

    Returns:
        float64 (a, r) and (b, r), r at most min(a, f).
    """
    parts = list(zip(blocks_of(train_af), blocks_of(test_bf), strict=True))
    weights = [1.0] * len(parts) if weights is None else weights
    scaled = [_scaled(*part, weight) for part, weight in zip(parts, weights, strict=True)]
    return _principal_axes(*(np.hstack(side) for side in zip(*scaled, strict=True)))


def _scaled(train_af: np.ndarray, test_bf: np.ndarray, weight: float) -> tuple[np.ndarray, np.ndarray]:
    """Standardise a block by the training synapses, divide by the root of its width, multiply by its weight."""
    train_af = train_af.astype(np.float64)
    mean_f, std_f = train_af.mean(axis=0), train_af.std(axis=0)
    # Rounding leaves a constant float32 feature with a tiny deviation, which dividing would blow up to noise.
    is_constant_f = std_f <= 1e-7 * np.maximum(np.abs(mean_f), 1e-30)
    scale_f = weight * np.where(is_constant_f, 0.0, 1.0 / np.where(is_constant_f, 1.0, std_f))
    scale_f /= np.sqrt(train_af.shape[1])
    return (train_af - mean_f) * scale_f, (test_bf.astype(np.float64) - mean_f) * scale_f


def _principal_axes(train_af: np.ndarray, test_bf: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Turn into the axes that the training synapses span, where they are fewer than the columns."""
    if train_af.shape[1] <= train_af.shape[0]:
        return train_af, test_bf
    eigenvalues_a, vectors_aa = np.linalg.eigh(train_af @ train_af.T)
    kept = eigenvalues_a > max(eigenvalues_a[-1], 1e-300) * 1e-10
    scales_r = np.sqrt(eigenvalues_a[kept])
    axes_fr = train_af.T @ (vectors_aa[:, kept] / scales_r)
    return vectors_aa[:, kept] * scales_r, test_bf @ axes_fr


def linear_probe(
    train_ar: np.ndarray,
    target_a: np.ndarray,
    test_br: np.ndarray,
    is_class: bool,
    groups_a: np.ndarray,
    penalties: Sequence[float],
    seed: int = 0,
    n_classes: int = 0,
) -> np.ndarray:
    """Ridge regression, or logistic regression for classes, with the penalty chosen inside the training synapses.

    Args:
        train_ar: Training coordinates from :func:`fold_coordinates`.
        target_a: float (a,); 0.0 or 1.0 for two classes, 0, 1, ... for several.
        test_br: Test coordinates.
        is_class: Logistic instead of ridge regression.
        groups_a: Neurites of the training synapses; the inner folds respect them too.
        penalties: L2 penalties to choose from.
        seed: Seed of the inner folds.
        n_classes: Number of classes for a multinomial regression; 0: numbers, or the two classes 0 and 1.

    Returns:
        float64 (b,): predicted value, or log-odds of class 1; (k, b) log-probabilities of several classes.
    """
    return best_linear_probe([(train_ar, test_br)], target_a, is_class, groups_a, penalties, seed, n_classes)


def best_linear_probe(
    coordinates: Sequence[tuple[np.ndarray, np.ndarray]],
    target_a: np.ndarray,
    is_class: bool,
    groups_a: np.ndarray,
    penalties: Sequence[float],
    seed: int = 0,
    n_classes: int = 0,
) -> np.ndarray:
    """A linear probe that chooses its coordinates too, such as the weights of blocks, inside the training synapses.

    Args:
        coordinates: Pairs (train, test) to choose from; where there are too few neurites to choose by, the first.
        target_a: As for :func:`linear_probe`, like the others and what is returned.
        is_class: See there.
        groups_a: See there.
        penalties: See there.
        seed: See there.
        n_classes: See there.
    """
    paths = _multinomial_path if n_classes else _logistic_path if is_class else _ridge_path
    inner = None
    n_choices = len(penalties) * len(coordinates)
    if n_choices > 1 and len(np.unique(groups_a)) >= _INNER_FOLDS:
        inner = grouped_folds(target_a, groups_a, is_class, _INNER_FOLDS, seed)
    if inner is None:
        # Too few neurites to choose by: the middle penalty.
        train_ar, test_br = coordinates[0]
        return paths(train_ar, target_a, test_br, [sorted(penalties)[len(penalties) // 2]])[0]
    losses_cp = np.zeros((len(coordinates), len(penalties)))
    for choice, (train_ar, _) in enumerate(coordinates):
        for train, test in inner:
            predicted_pb = paths(train_ar[train], target_a[train], train_ar[test], penalties)
            losses_cp[choice] += _loss(predicted_pb, target_a[test], is_class)
    chosen, penalty = divmod(int(np.argmin(losses_cp)), len(penalties))
    train_ar, test_br = coordinates[chosen]
    predicted_b = paths(train_ar, target_a, test_br, [penalties[penalty]])[0]
    # A test synapse far outside of the training ones (a black chunk) is not extrapolated to.
    return predicted_b if is_class else np.clip(predicted_b, target_a.min(), target_a.max())


def _loss(predicted_pb: np.ndarray, target_b: np.ndarray, is_class: bool) -> np.ndarray:
    """Summed log loss or squared error per penalty; predictions (p, b), or (p, k, b) of several classes."""
    if predicted_pb.ndim == 3:
        found_p: np.ndarray = -predicted_pb[:, target_b.astype(int), np.arange(len(target_b))].sum(axis=1)
        return found_p
    if is_class:
        loss_p: np.ndarray = np.logaddexp(0.0, np.where(target_b == 1.0, -1.0, 1.0) * predicted_pb).sum(axis=1)
        return loss_p
    return np.square(predicted_pb - target_b).sum(axis=1)


def _ridge_path(
    train_ar: np.ndarray, target_a: np.ndarray, test_br: np.ndarray, penalties: Sequence[float]
) -> np.ndarray:
    """Ridge predictions (p, b) for every penalty from one eigendecomposition."""
    centre_r, offset = train_ar.mean(axis=0), target_a.mean()
    centred_ar = train_ar - centre_r
    eigenvalues_r, axes_rr = np.linalg.eigh(centred_ar.T @ centred_ar)
    moments_r = axes_rr.T @ (centred_ar.T @ (target_a - offset))
    weights_pr = moments_r / (np.maximum(eigenvalues_r, 0.0) + np.asarray(penalties, dtype=float)[:, None])
    return weights_pr @ ((test_br - centre_r) @ axes_rr).T + offset


def _logistic_path(
    train_ar: np.ndarray, target_a: np.ndarray, test_br: np.ndarray, penalties: Sequence[float]
) -> np.ndarray:
    """Log-odds (p, b) for every penalty, each fit started from the next stronger one."""
    from sklearn.linear_model import LogisticRegression

    logits_pb = np.empty((len(penalties), len(test_br)))
    model = LogisticRegression(tol=1e-3, max_iter=200, warm_start=True)
    for index in np.argsort(penalties)[::-1]:
        model.set_params(C=1.0 / penalties[index])
        model.fit(train_ar, target_a)
        logits_pb[index] = model.decision_function(test_br)
    return logits_pb


def _multinomial_path(
    train_ar: np.ndarray, target_a: np.ndarray, test_br: np.ndarray, penalties: Sequence[float]
) -> np.ndarray:
    """Log-probabilities (p, k, b) of classes that all occur in training, for every penalty."""
    from sklearn.linear_model import LogisticRegression

    found = [np.empty(0)] * len(penalties)
    model = LogisticRegression(tol=1e-3, max_iter=200, warm_start=True)
    for index in np.argsort(penalties)[::-1]:
        model.set_params(C=1.0 / penalties[index])
        model.fit(train_ar, target_a)
        found[index] = model.predict_log_proba(test_br).T
    return np.clip(np.stack(found), _LEAST_LOG_PROBABILITY, 0.0)


def knn_probe(train_ar: np.ndarray, target_a: np.ndarray, test_br: np.ndarray, n_neighbours: int) -> np.ndarray:
    """Mean target of the nearest training synapses, by Euclidean distance.

    Args:
        train_ar: Training coordinates from :func:`fold_coordinates`.
        target_a: float (a,); or (a, k), 1 for the class of each synapse.
        test_br: Test coordinates.
        n_neighbours: Neighbours to average; all training synapses if there are fewer.

    Returns:
        float64 (b,): predicted value, or fraction of neighbours of class 1; (b, k) fractions of several classes.
    """
    n_neighbours = min(n_neighbours, len(train_ar))
    squared_ba = np.square(train_ar).sum(axis=1) - 2.0 * (test_br @ train_ar.T)
    nearest_bk = np.argpartition(squared_ba, n_neighbours - 1, axis=1)[:, :n_neighbours]
    return target_a[nearest_bk].mean(axis=1)


def fold_score(metric: Metric, target_b: np.ndarray, predicted_b: np.ndarray) -> float:
    """Score predictions of one fold: ROC AUC in [0, 1] (chance 0.5), or explained variance, at most 1 (chance 0).

    Args:
        metric: ``macro_auc`` is the mean, over the classes of the test synapses, of the ROC AUC of each against the
            others.
        target_b: Values, or codes of classes.
        predicted_b: float (b,); (k, b) for ``macro_auc``.
    """
    from sklearn.metrics import explained_variance_score, roc_auc_score

    if metric == "macro_auc":
        codes = np.unique(target_b).astype(int)
        return float(np.mean([roc_auc_score(target_b == code, predicted_b[code]) for code in codes]))
    score = roc_auc_score if metric == "roc_auc" else explained_variance_score
    return float(score(target_b, predicted_b))


def balanced_accuracy(target_b: np.ndarray, predicted_kb: np.ndarray) -> float:
    """Mean share of right predictions over the classes of the test synapses; the class with the largest value counts.

    Args:
        target_b: Codes of classes.
        predicted_kb: float (k, b).
    """
    is_right_b = predicted_kb.argmax(axis=0) == target_b
    return float(np.mean([is_right_b[target_b == code].mean() for code in np.unique(target_b)]))
