"""An imputation condensed: the block of the evaluation that experiment trackers and people read."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

_CALIBRATION = (
    "expected_calibration_error",
    "debiased_calibration_error",
    "calibration_error_by_chance",
    "log_loss",
    "brier_score",
    "accuracy",
    "coverage_50",
    "coverage_90",
    "z_score_rms",
)


def imputation_document(scores: pd.DataFrame, calibration: pd.DataFrame) -> dict[str, dict[str, Any]]:
    """Condense scores and calibration.

    Args:
        scores: As in :class:`~synapseclr.analysis.gaussian_processes.imputing.Imputation`.
        calibration: Likewise; the rows of what is given out (``is_corrected``) count.

    Returns:
        ``{trait: {"metric": str, "by_neurite": {"mean", "std", "folds", <calibration>}, "by_synapse": {...}}}`` with
        nothing but JSON's own types. Measures that do not apply to the trait are left out.
    """
    document: dict[str, dict[str, Any]] = {}
    for (trait, split, metric), of_one in scores.groupby(["trait", "split", "metric"], sort=False):
        score = of_one["score"].to_numpy(dtype=float)
        entry: dict[str, Any] = {
            "mean": float(score.mean()),
            "std": float(score.std(ddof=1)) if len(score) > 1 else 0.0,
            "folds": len(score),
        }
        chosen = calibration[
            (calibration["trait"] == trait) & (calibration["split"] == split) & calibration["is_corrected"].astype(bool)
        ]
        for row in chosen.to_dict("records"):
            entry |= {name: float(row[name]) for name in _CALIBRATION if name in row and np.isfinite(row[name])}
        document.setdefault(str(trait), {"metric": str(metric)})[f"by_{split}"] = entry
    return document


def imputation_metrics(document: dict[str, dict[str, Any]]) -> dict[str, float]:
    """Flatten to ``gaussian_processes/<trait>/by_<split>/<measure>``; the mean score goes by the name of its metric."""
    metrics: dict[str, float] = {}
    for trait, splits in document.items():
        for split in ("by_neurite", "by_synapse"):
            for name, value in splits.get(split, {}).items():
                if name != "folds":
                    measure = {"mean": splits["metric"], "std": f"{splits['metric']}_std"}.get(name, name)
                    metrics[f"gaussian_processes/{trait}/{split}/{measure}"] = float(value)
    return metrics
