"""How many directions the features of each layer really use."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from synapseclr.analysis.layers import check_finite

SPECTRUM_COLUMNS = ("representation", "layer", "component", "variance", "fraction", "cumulative")


def layer_spectra(representations: Mapping[str, Mapping[str, np.ndarray]]) -> pd.DataFrame:
    """Principal component spectra of every layer.

    Args:
        representations: Name to layer to features (n, f).

    Returns:
        One row per representation, layer and component, largest first: ``variance`` (eigenvalue of the covariance),
        its ``fraction`` of all, and the ``cumulative`` fraction. Features that are all constant have zeros.
    """
    tables = []
    for name, layers in representations.items():
        for layer, features_nf in layers.items():
            check_finite(features_nf, layer)
            centred_nf = features_nf.astype(np.float64) - features_nf.mean(axis=0, dtype=np.float64)
            covariance_ff = centred_nf.T @ centred_nf / max(len(features_nf) - 1, 1)
            variance_p = np.maximum(np.linalg.eigvalsh(covariance_ff)[::-1], 0.0)
            variance_p = variance_p[: max(1, min(len(features_nf) - 1, len(variance_p)))]
            total = variance_p.sum()
            fraction_p = variance_p / total if total > 0 else np.zeros_like(variance_p)
            columns = (name, layer, np.arange(1, len(variance_p) + 1), variance_p, fraction_p, np.cumsum(fraction_p))
            tables.append(pd.DataFrame(dict(zip(SPECTRUM_COLUMNS, columns, strict=True))))
    return pd.concat(tables, ignore_index=True)


def effective_dimensions(fraction_p: np.ndarray) -> dict[str, float]:
    """Numbers that say how many directions a spectrum spreads over.

    Args:
        fraction_p: Fractions of the variance, largest first.

    Returns:
        ``effective_rank``, the exponential of the spectrum's entropy (Roy & Vetterli 2007); ``participation_ratio``,
        one over the sum of squared fractions; ``components_90``, components that hold 90 % of the variance. All are 0
        for constant features.
    """
    positive = fraction_p[fraction_p > 0]
    if not len(positive):
        return {"effective_rank": 0.0, "participation_ratio": 0.0, "components_90": 0.0}
    return {
        "effective_rank": float(np.exp(-(positive * np.log(positive)).sum())),
        "participation_ratio": float(1.0 / np.square(positive).sum()),
        "components_90": float(np.searchsorted(np.cumsum(positive), 0.9 - 1e-12) + 1),
    }


def spectrum_metrics(spectra: pd.DataFrame) -> dict[str, float]:
    """Flatten to ``features/<representation>/<layer>/<measure>``."""
    return {
        f"features/{name}/{layer}/{measure}": value
        for (name, layer), rows in spectra.groupby(["representation", "layer"], sort=False)
        for measure, value in effective_dimensions(rows["fraction"].to_numpy()).items()
    }
