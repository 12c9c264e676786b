"""Inputs of the kernels: standardised features on their principal axes, at a scale of one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from synapseclr.analysis.feature_blocks import Features, blocks_of, with_statistics
from synapseclr.analysis.gaussian_processes.config import GaussianProcessConfig
from synapseclr.analysis.layers import layer_features

if TYPE_CHECKING:
    from anndata import AnnData

_MAX_FITTED = 20_000


def process_features(embeddings: AnnData, mask_statistics: pd.DataFrame, config: GaussianProcessConfig) -> Features:
    """What the processes are fitted on: the layer that the parameters name, and the statistics of the masks."""
    if config.with_masks:
        return with_statistics(embeddings, config.layer, mask_statistics)
    return layer_features(embeddings, config.layer)


def kernel_inputs(features_nf: Features, n_components: int, seed: int = 0) -> np.ndarray:
    """Standardise features, keep the leading principal components, and scale them to a mean squared norm of one.

    No annotation is used, so all synapses may take part, those of test folds included: imputation always knows the
    features of the synapses that it imputes. Axes are those of 20,000 synapses drawn at random if there are more.

    Args:
        features_nf: Shape (n, f), finite; blocks of features have the same weight.
        n_components: Components wanted; at most the rank is kept. Constant features are left out.
        seed: Seed of the draw.

    Returns:
        float64 (n, r). All zero, with r = 1, if every feature is constant.
    """
    standard_nf = np.hstack([_standardised(part_nf) for part_nf in blocks_of(features_nf)])
    if not standard_nf.shape[1]:
        return np.zeros((len(features_nf), 1))
    fitted_nf = standard_nf
    if len(standard_nf) > _MAX_FITTED:
        fitted_nf = standard_nf[np.random.default_rng(seed).choice(len(standard_nf), _MAX_FITTED, replace=False)]
    # The sign of an axis is arbitrary; kernels of distances and dot products do not see it.
    inputs_nr = standard_nf @ _leading_axes(fitted_nf, n_components)
    scaled_nr: np.ndarray = inputs_nr / np.sqrt(np.square(inputs_nr).sum(axis=1).mean())
    return scaled_nr


def _leading_axes(features_nf: np.ndarray, n_axes: int) -> np.ndarray:
    """Orthonormal axes (f, r) along which centred features vary most, r at most their rank."""
    from scipy.linalg import eigh

    n, f = features_nf.shape
    products = features_nf.T @ features_nf if f <= n else features_nf @ features_nf.T
    first = max(0, len(products) - n_axes)
    eigenvalues_r, vectors_r = eigh(products, subset_by_index=(first, len(products) - 1))
    kept = np.flatnonzero(eigenvalues_r > eigenvalues_r[-1] * 1e-10)[::-1]
    if f <= n:
        leading_fr: np.ndarray = vectors_r[:, kept]
        return leading_fr
    axes_fr: np.ndarray = features_nf.T @ (vectors_r[:, kept] / np.sqrt(eigenvalues_r[kept]))
    return axes_fr


def _standardised(features_nf: np.ndarray) -> np.ndarray:
    """Features that vary, standardised and divided by the root of their number."""
    features_nf = np.asarray(features_nf, dtype=np.float64)
    mean_f, std_f = features_nf.mean(axis=0), features_nf.std(axis=0)
    varies_f = std_f > 1e-7 * np.maximum(np.abs(mean_f), 1e-30)
    standard_nf: np.ndarray = (features_nf[:, varies_f] - mean_f[varies_f]) / std_f[varies_f]
    return standard_nf / np.sqrt(max(1, standard_nf.shape[1]))
