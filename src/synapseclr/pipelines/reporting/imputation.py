"""The report's section on imputed traits: how good, how sure, and how honest the uncertainty is."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import pandas as pd

from synapseclr.analysis.config import ImputationConfig
from synapseclr.analysis.imputation.imputing import imputation_document
from synapseclr.analysis.layers import BACKBONE
from synapseclr.analysis.traits import TRAITS, Trait
from synapseclr.pipelines.imputation.gaussian_processes import (
    draw_learning_curves,
    draw_predictions,
    draw_reliability,
)
from synapseclr.plotting.report import Picture, Section, Table

_COLUMNS = (
    "trait",
    "metric",
    "Gaussian process, by neurite",
    "linear probe, by neurite",
    "k-NN probe, by neurite",
    "Gaussian process, by synapse",
    "calibration",
)


def describe_imputation(
    held_out: pd.DataFrame,
    scores: pd.DataFrame,
    calibration: pd.DataFrame,
    unimputed: pd.DataFrame,
    curves: pd.DataFrame,
    probes: pd.DataFrame,
    config: ImputationConfig,
) -> Section:
    """Scores, calibration and figures of the imputation.

    Args:
        held_out: Held-out predictions.
        scores: Scores of the Gaussian processes per fold.
        calibration: Their calibration.
        unimputed: Traits that could not be imputed: ``label``, ``n_annotated``, ``reason``.
        curves: Learning curves.
        probes: Scores of the probes condensed over folds.
        config: The parameters ``imputation``.
    """
    tables = []
    if len(unimputed):
        rows = unimputed[["label", "n_annotated", "reason"]].astype(str).to_numpy().tolist()
        tables.append(
            Table(("trait", "annotated synapses", "why"), rows, "Traits that were not imputed.", is_folded=True)
        )
    if scores.empty:
        return Section("Imputed traits", ["No trait could be imputed."], tables=tables)
    document = imputation_document(scores, calibration)
    layer = config.gaussian_processes.layer
    means = probes[(probes["representation"] == "synapseclr") & (probes["layer"] == layer)]
    probe_scores = {(row["trait"], row["probe"]): row for row in means.to_dict("records")}
    rows = [_row(trait, document[trait.name], probe_scores) for trait in TRAITS if trait.name in document]
    caption = (
        "Mean ± standard deviation over folds. Folds by synapse leave synapses of a test neurite in training, and so "
        "promise more than a new neurite will get. Calibration: expected calibration error (in brackets what chance "
        "alone would make of it; then the root mean squared error without that part), or the share of measurements "
        "inside the 90 % interval."
    )
    tables.insert(0, Table(_COLUMNS, rows, caption, has_numbers=True))
    name = "the backbone" if layer == BACKBONE else layer
    text = (
        f"Gaussian processes on features of {name} impute every trait at every synapse, with a standard deviation or a "
        "probability. An annotated synapse is predicted from other neurites alone. Probabilities and standard "
        "deviations are corrected by what was held out in other folds."
    )
    pictures = [
        Picture(
            draw_predictions(held_out, scores, calibration),
            "Held-out predictions with 90 % intervals against measurements; 150 synapses drawn per panel at most.",
        ),
        Picture(
            draw_reliability(held_out, calibration, config),
            "Observed frequency against stated probability in equally full bins, with 90 % intervals.",
        ),
    ]
    if curves["score"].notna().any():
        n_draws = int(curves["repetition"].max()) + 1
        pictures.append(
            Picture(
                draw_learning_curves(curves),
                f"Scores with fewer labels, {n_draws} draw{'s' * (n_draws > 1)} each, tested on a tenth of the "
                "neurites; bands are one standard deviation.",
            )
        )
    return Section("Imputed traits", [text], pictures, tables)


def _row(trait: Trait, entry: dict[str, Any], probe_scores: dict[tuple[str, str], dict[Hashable, Any]]) -> list[str]:
    by_neurite = entry["by_neurite"]
    if trait.kind == "class":
        error, chance = by_neurite["expected_calibration_error"], by_neurite["calibration_error_by_chance"]
        calibration = f"{error:.3f} ({chance:.3f}); debiased {by_neurite['debiased_calibration_error']:.3f}"
    else:
        calibration = f"{100 * by_neurite['coverage_90']:.0f} % of 90 %"
    metric = "ROC AUC" if trait.kind == "class" else "explained variance"
    cells = [_score(probe_scores.get((trait.name, probe))) for probe in ("linear", "knn")]
    return [trait.label, metric, _score(by_neurite), *cells, _score(entry.get("by_synapse")), calibration]


def _score(entry: Mapping[Any, Any] | None) -> str:
    if entry is None:
        return ""
    # Adding zero turns the -0.0 that rounding may leave into 0.0.
    return f"{round(float(entry['mean']), 3) + 0.0:.3f} ± {round(float(entry['std']), 3) + 0.0:.3f}"
