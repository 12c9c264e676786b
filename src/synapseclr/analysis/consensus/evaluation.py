"""How good and how honest neurite posteriors are, by the number of synapses that they rest on."""

from __future__ import annotations

import numpy as np
import pandas as pd

from synapseclr.analysis.config import ConsensusConfig
from synapseclr.analysis.consensus.posterior import called_types
from synapseclr.analysis.traits.calibration import (
    calibration_error_by_chance,
    debiased_calibration_error,
    expected_calibration_error,
    grouped_interval,
)
from synapseclr.analysis.traits.correction import logit

EVALUATION_COLUMNS = (
    "stratum",
    "method",
    "n_neurites",
    "accuracy",
    "lower_90",
    "upper_90",
    "synapse_accuracy",
    "called",
    "accuracy_called",
    "expected_calibration_error",
    "debiased_calibration_error",
    "calibration_error_by_chance",
    "log_loss",
)


def evaluate_consensus(held_out: pd.DataFrame, config: ConsensusConfig | None = None) -> pd.DataFrame:
    """Accuracy and calibration on held-out neurites, measured, by synapses per neurite.

    Args:
        held_out: Held-out neurites from :func:`neurite_posteriors`; a neurite may occur several times, with
            predictions from several draws of labels.
        config: Strata, threshold, bins.

    Returns:
        One row per stratum (``all`` first) and method (``corrected``, ``independent``): ``accuracy`` with its 90 %
        interval (bootstrap over neurites), mean accuracy of the neurites' single synapses, share ``called`` at the
        threshold and accuracy among those, calibration error with chance's part, log loss.
    """
    config = config or ConsensusConfig()
    rows = []
    for stratum, table in _strata(held_out, config.strata):
        target_u = table["target"].to_numpy(dtype=float)
        for method, column in (("corrected", "probability"), ("independent", "independent_probability")):
            probability_u = table[column].to_numpy(dtype=float)
            is_right_u = ((probability_u > 0.5) == (target_u == 1.0)).astype(float)
            is_called_u = np.isfinite(called_types(probability_u, config.min_probability))
            lower, upper = grouped_interval(is_right_u, table["root_id"].to_numpy())
            loss_u = np.logaddexp(0.0, -np.where(target_u == 1.0, 1.0, -1.0) * logit(probability_u))
            values = (
                *(stratum, method, table["root_id"].nunique(), float(is_right_u.mean()), lower, upper),
                float(table["synapse_accuracy"].mean()),
                float(is_called_u.mean()),
                float(is_right_u[is_called_u].mean()) if is_called_u.any() else np.nan,
                expected_calibration_error(probability_u, target_u, config.n_bins),
                debiased_calibration_error(probability_u, target_u, config.n_bins),
                calibration_error_by_chance(probability_u, config.n_bins),
                float(loss_u.mean()),
            )
            rows.append(values)
    return pd.DataFrame(rows, columns=list(EVALUATION_COLUMNS))


def _strata(held_out: pd.DataFrame, ends: tuple[int, ...]) -> list[tuple[str, pd.DataFrame]]:
    """All neurites, then those of each class of synapses per neurite that has any."""
    parts = [("all", held_out)]
    start = 1
    for end in sorted(ends):
        parts.append(
            (f"{start} to {end}" if end > start else f"{end}", held_out[held_out["n_synapses"].between(start, end)])
        )
        start = end + 1
    parts.append((f"{start} and more", held_out[held_out["n_synapses"] >= start]))
    return [(name, table) for name, table in parts if len(table)]


def consensus_document(evaluation: pd.DataFrame) -> dict[str, dict[str, dict[str, float]]]:
    """Condense to ``{stratum: {method: {measure: value}}}`` with JSON's own types; what is not known is left out."""
    document: dict[str, dict[str, dict[str, float]]] = {}
    for row in evaluation.to_dict("records"):
        measures = {str(name): float(row[name]) for name in EVALUATION_COLUMNS[2:] if np.isfinite(row[name])}
        document.setdefault(str(row["stratum"]), {})[str(row["method"])] = measures
    return document


def censored_metrics(censored: pd.DataFrame) -> dict[str, float]:
    """Flatten to ``consensus/labels_<percent>/<stratum>/<method>/<measure>``."""
    metrics: dict[str, float] = {}
    for fraction, of_one in censored.groupby("fraction", sort=False):
        for name, value in consensus_metrics(consensus_document(of_one)).items():
            metrics[name.replace("consensus/", f"consensus/labels_{100 * float(str(fraction)):g}_percent/")] = value
    return metrics


def consensus_metrics(document: dict[str, dict[str, dict[str, float]]]) -> dict[str, float]:
    """Flatten to ``consensus/<stratum>/<method>/<measure>``."""
    return {
        f"consensus/{stratum}/{method}/{name}": value
        for stratum, methods in document.items()
        for method, measures in methods.items()
        for name, value in measures.items()
    }
