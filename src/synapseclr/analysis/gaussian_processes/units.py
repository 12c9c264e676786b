"""From z-scores of logarithms back to what was measured."""

from __future__ import annotations

import numpy as np
import pandas as pd

from synapseclr.analysis.traits.calibration import LEVELS
from synapseclr.errors import TableError

_COLUMNS = ("trait", "raw_column", "transform", "location", "scale")
_KNOWN = ("log1p_zscore", "log1p_zscore_zi")


def original_units(mean_n: np.ndarray, sd_n: np.ndarray, trait: str, scales: pd.DataFrame) -> dict[str, np.ndarray]:
    """Undo ``(log(1 + value) - location) / scale``.

    A normal z-score is a log-normal value: its mean and standard deviation are those of that distribution, and the
    interval holds the same 90 % as that of the z-score.

    Args:
        mean_n: Predicted z-scores.
        sd_n: Their standard deviations.
        trait: Name of the trait.
        scales: ``annotation_scales``: ``trait, raw_column, transform, location, scale``.

    Returns:
        ``<raw column>_{mean,sd,lower_90,upper_90}`` to float64 (n,). Nothing if the table does not know how the trait
        was scaled, as for annotations that came already transformed.

    Raises:
        TableError: If a column of ``scales`` is missing.
    """
    missing = [name for name in _COLUMNS if name not in scales]
    if missing:
        raise TableError(
            f"'annotation_scales' lacks the columns {missing}: run `kedro run --pipeline=preprocessing` again."
        )
    rows = scales[scales["trait"] == trait].to_dict("records")
    if not rows or rows[0]["transform"] not in _KNOWN or not np.isfinite([rows[0]["location"], rows[0]["scale"]]).all():
        return {}
    name, location, scale = str(rows[0]["raw_column"]), float(rows[0]["location"]), float(rows[0]["scale"])
    log_mean_n, log_variance_n = location + scale * mean_n, np.square(scale * sd_n)
    value_n = np.exp(log_mean_n + 0.5 * log_variance_n)
    half_n = LEVELS[90] * np.sqrt(log_variance_n)
    return {
        f"{name}_mean": value_n - 1.0,
        f"{name}_sd": value_n * np.sqrt(np.expm1(log_variance_n)),
        # A measured size or distance is not negative.
        f"{name}_lower_90": np.maximum(np.expm1(log_mean_n - half_n), 0.0),
        f"{name}_upper_90": np.expm1(log_mean_n + half_n),
    }
