"""Inputs of the kernels: standardised features on their principal axes, at a scale of one."""

from __future__ import annotations

import numpy as np

_MAX_FITTED = 20_000


def kernel_inputs(features_nf: np.ndarray, n_components: int, seed: int = 0) -> np.ndarray:
    """Standardise features, keep the leading principal components, and scale them to a mean squared norm of one.

    No annotation is used, so all synapses may take part, those of test folds included: imputation always knows the
    features of the synapses that it imputes. Axes are those of 20,000 synapses drawn at random if there are more.

    Args:
        features_nf: Shape (n, f), finite.
        n_components: Components wanted; at most the rank is kept. Constant features are left out.
        seed: Seed of the draw.

    Returns:
        float64 (n, r). All zero, with r = 1, if every feature is constant.
    """
    features_nf = np.asarray(features_nf, dtype=np.float64)
    mean_f, std_f = features_nf.mean(axis=0), features_nf.std(axis=0)
    varies_f = std_f > 1e-7 * np.maximum(np.abs(mean_f), 1e-30)
    if not varies_f.any():
        return np.zeros((len(features_nf), 1))
    standard_nf = (features_nf[:, varies_f] - mean_f[varies_f]) / std_f[varies_f]
    fitted_nf = standard_nf
    if len(standard_nf) > _MAX_FITTED:
        fitted_nf = standard_nf[np.random.default_rng(seed).choice(len(standard_nf), _MAX_FITTED, replace=False)]
    eigenvalues_f, axes_ff = np.linalg.eigh(fitted_nf.T @ fitted_nf)
    order = np.argsort(eigenvalues_f)[::-1][:n_components]
    kept = order[eigenvalues_f[order] > eigenvalues_f[-1] * 1e-10]
    # The sign of an eigenvector is arbitrary; kernels of distances and dot products do not see it.
    inputs_nr = standard_nf @ axes_ff[:, kept]
    scaled_nr: np.ndarray = inputs_nr / np.sqrt(np.square(inputs_nr).sum(axis=1).mean())
    return scaled_nr
