"""Inducing points with the collapsed bound (SGPR): for training sets whose full matrix is too large."""

from __future__ import annotations

from typing import Any

import numpy as np

from synapseclr.analysis.gaussian_processes.config import GaussianProcessConfig
from synapseclr.analysis.gaussian_processes.marginal_likelihood import fit_process, linear_algebra
from synapseclr.analysis.gaussian_processes.observations import Observations

_CHUNK = 2048


def fit_inducing(
    train_ar: np.ndarray, observations: Observations, query_nr: np.ndarray, config: GaussianProcessConfig, seed: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, Any]:
    """Fit everything, inducing points included, by the collapsed bound; then predict.

    Returns:
        Mean, variance and prior variance, each float64 (o, n), and the fitted likelihood.

    Source: Titsias 2009, http://proceedings.mlr.press/v5/titsias09a.html.
    """
    import torch

    train = torch.as_tensor(train_ar, dtype=torch.float64)
    with linear_algebra(is_exact=False):
        process, likelihood = fit_process(
            train, observations, config, inducing_points(train_ar, config.n_inducing, seed)
        )
        parts = []
        with torch.no_grad():
            for start in range(0, len(query_nr), _CHUNK):
                query = torch.as_tensor(query_nr[start : start + _CHUNK], dtype=torch.float64)
                found = process(query)
                values = (found.mean, found.variance, process.prior_kernel(query, diag=True))
                parts.append(tuple(np.atleast_2d(value.numpy()) for value in values))
    mean_on, variance_on, prior_on = (np.concatenate(part, axis=1) for part in zip(*parts, strict=True))
    return mean_on, np.maximum(variance_on, 1e-12), prior_on, likelihood


def inducing_points(train_ar: np.ndarray, n_inducing: int, seed: int) -> np.ndarray:
    """Centres of k-means, float64 (m, r), m at most the number of training synapses."""
    from sklearn.cluster import MiniBatchKMeans

    if n_inducing >= len(train_ar):
        return np.array(train_ar, dtype=np.float64)
    clusters = MiniBatchKMeans(n_inducing, n_init=1, batch_size=4096, random_state=seed).fit(train_ar)
    return np.asarray(clusters.cluster_centers_, dtype=np.float64)
