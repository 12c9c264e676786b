"""Features in which common variation counts little and rare variation much."""

from __future__ import annotations

import numpy as np

from synapseclr.analysis.feature_blocks import FeatureBlocks, Features
from synapseclr.errors import SynapseCLRError


def whiten(features_nf: Features, shrinkage: float) -> np.ndarray:
    """Standardise features, rotate them to principal components, and divide these by their shrunk standard deviation.

    Blocks of features are whitened each on its own and scaled to the same mean squared norm: whitened together, 25
    statistics are drowned by the components of 900 learned features.

    Args:
        features_nf: (n, f), n at least 2, or blocks. Constant features are dropped.
        shrinkage: 0 gives every component unit variance, 1 leaves the standardised features as they are; in between,
            a component of variance v is divided by sqrt((1 - s) v + s v_mean), so that components of little variance,
            which hold noise, are not blown up.

    Returns:
        float64 (n, p), centred; p is at most f and, for a single block, at most n.

    Raises:
        SynapseCLRError: If all features are constant or there are fewer than two synapses.

    Source: shrinkage towards a multiple of the identity, Ledoit & Wolf 2004, doi:10.1016/S0047-259X(03)00096-4.
    """
    if isinstance(features_nf, FeatureBlocks):
        white = [whiten(part_nf, shrinkage) for part_nf in features_nf.parts]
        return np.hstack([white_np / np.sqrt(np.square(white_np).sum(axis=1).mean()) for white_np in white])
    raw_nf = np.asarray(features_nf, dtype=np.float64)
    spread_f = raw_nf.std(axis=0) if len(raw_nf) > 1 else np.zeros(raw_nf.shape[1])
    # Rounding leaves a constant feature with a spread of its own precision.
    varies_f = spread_f > 1e-6 * np.maximum(np.abs(raw_nf).max(axis=0, initial=0.0), 1e-30)
    if not varies_f.any():
        raise SynapseCLRError(
            f"Outliers cannot be searched: all {raw_nf.shape[1]} features of the {len(raw_nf)} synapses are constant. "
            "The encoder has collapsed, or there is a single synapse."
        )
    kept_nf = raw_nf[:, varies_f]
    scaled_nf = (kept_nf - kept_nf.mean(axis=0)) / spread_f[varies_f]
    # The f x f covariance and not the n x f matrix is decomposed: n may be a million.
    variance_p, axes_fp = np.linalg.eigh(scaled_nf.T @ scaled_nf / len(scaled_nf))
    kept_p = variance_p > 1e-9 * variance_p.max()
    variance_p, axes_fp = variance_p[kept_p], axes_fp[:, kept_p]
    scale_p = np.sqrt((1 - shrinkage) * variance_p + shrinkage * variance_p.mean())
    return np.asarray(scaled_nf @ axes_fp / scale_p)
