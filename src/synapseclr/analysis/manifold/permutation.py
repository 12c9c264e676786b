"""Cross-validated probes of several targets at once, so that a permutation null costs little."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from synapseclr.analysis.traits.folds import Fold


def neurite_permutations(group_n: np.ndarray, n_permutations: int, seed: int) -> np.ndarray:
    """Permutations that move the synapses of a neurite together.

    Synapses of a neurite lie close to each other and look alike; a null that tore them apart would be too narrow.

    Args:
        group_n: int (n,): neurite of each synapse.
        n_permutations: Permutations wanted.
        seed: Their seed.

    Returns:
        int64 (p, n): row whose target each synapse takes. Neurites differ in size, so a few are split at the seams.
    """
    rng = np.random.default_rng(seed)
    order_n = np.argsort(group_n, kind="stable")
    members = np.split(order_n, np.flatnonzero(np.diff(group_n[order_n])) + 1)
    drawn_pn = np.empty((n_permutations, len(group_n)), np.int64)
    for row in drawn_pn:
        row[order_n] = np.concatenate([members[index] for index in rng.permutation(len(members))])
    return drawn_pn


def ridge_predictions(
    features_nr: np.ndarray, targets_nt: np.ndarray, folds: Sequence[Fold], penalties: Sequence[float]
) -> np.ndarray:
    """Predict every target from features, each fold from the others.

    Args:
        features_nr: float (n, r), few columns, such as principal components.
        targets_nt: float (n, t).
        folds: Pairs (train, test) of rows.
        penalties: L2 penalties to choose from, for every fold and target by generalised cross-validation; relative to
            the summed mean square of a feature.

    Returns:
        float64 (n, t).

    Source: generalised cross-validation, Golub, Heath & Wahba 1979, doi:10.1080/00401706.1979.10489751.
    """
    predicted_nt = np.empty(targets_nt.shape)
    for train, test in folds:
        centre_r, mean_t = features_nr[train].mean(axis=0), targets_nt[train].mean(axis=0)
        left_ar, values_r, right_rr = np.linalg.svd(features_nr[train] - centre_r, full_matrices=False)
        centred_at = targets_nt[train] - mean_t
        moments_rt = left_ar.T @ centred_at
        total_t, squares_rt = np.square(centred_at).sum(axis=0), np.square(moments_rt)
        scale = max(float(np.square(values_r).mean()), 1e-300)
        shrink_pr = values_r**2 / (values_r**2 + scale * np.asarray(penalties, dtype=float)[:, None])
        error_pt = total_t - (2 * shrink_pr - shrink_pr**2) @ squares_rt
        freedom_p = 1.0 - (1.0 + shrink_pr.sum(axis=1)) / len(train)
        best_t = np.argmin(error_pt / np.maximum(freedom_p, 1e-6)[:, None] ** 2, axis=0)
        weights_rt = (shrink_pr[best_t].T / np.maximum(values_r, 1e-150)[:, None]) * moments_rt
        predicted_nt[test] = (features_nr[test] - centre_r) @ (right_rr.T @ weights_rt) + mean_t
    return predicted_nt


def neighbour_predictions(
    features_nr: np.ndarray, targets_nt: np.ndarray, folds: Sequence[Fold], n_neighbours: int
) -> np.ndarray:
    """Predict every target as the mean over the nearest synapses of the other folds: float64 (n, t)."""
    from synapseclr.analysis.search.neighbours import build_index

    predicted_nt = np.empty(targets_nt.shape)
    for train, test in folds:
        index = build_index(features_nr[train].astype(np.float32), "flat")
        nearest_bk = index.search(features_nr[test].astype(np.float32), min(n_neighbours, len(train)))[1]
        sums_bt = np.zeros((len(test), targets_nt.shape[1]))
        for column in nearest_bk.T:
            sums_bt += targets_nt[train[column]]
        predicted_nt[test] = sums_bt / nearest_bk.shape[1]
    return predicted_nt


def explained_fraction(targets_nt: np.ndarray, predicted_nt: np.ndarray, folds: Sequence[Fold]) -> np.ndarray:
    """Summed squared error and variance of targets, as what predictions explain beyond the training folds' mean.

    Returns:
        float64 (2, t): squared error, and squared deviation from the mean of the training folds.
    """
    error_t = np.square(targets_nt - predicted_nt).sum(axis=0)
    total_t = np.zeros(targets_nt.shape[1])
    for train, test in folds:
        total_t += np.square(targets_nt[test] - targets_nt[train].mean(axis=0)).sum(axis=0)
    return np.stack([error_t, total_t])
