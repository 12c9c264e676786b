"""Nodes of the imputation pipeline that impute traits with their uncertainty."""

from __future__ import annotations

import logging
from collections.abc import Hashable
from typing import TYPE_CHECKING, Any

import pandas as pd

from synapseclr.analysis.config import ImputationConfig
from synapseclr.analysis.gaussian_processes.kernels import process_features
from synapseclr.analysis.imputation.imputing import imputation_document, impute_traits
from synapseclr.analysis.imputation.learning_curves import learning_curves, summarise_learning_curves
from synapseclr.analysis.traits import TRAITS
from synapseclr.analysis.traits.calibration import reliability_table
from synapseclr.plotting.traits.imputation import predicted_against_measured, reliability_diagram
from synapseclr.plotting.traits.learning_curves import learning_curve_figure

if TYPE_CHECKING:
    from anndata import AnnData
    from matplotlib.figure import Figure
else:
    # Kedro resolves the hints of node functions when the project starts; these types are too heavy to import then.
    AnnData = Figure = Any

logger = logging.getLogger(__name__)


def impute(
    synapse_embeddings: AnnData,
    mask_statistics: pd.DataFrame,
    annotation_scales: pd.DataFrame,
    config: ImputationConfig,
) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Impute every trait at every synapse with Gaussian processes.

    Returns:
        Imputed traits, held-out predictions, scores per fold, calibration, and the traits that could not be imputed.
    """
    features_nf = process_features(synapse_embeddings, mask_statistics, config.gaussian_processes)
    found = impute_traits(features_nf, synapse_embeddings.obs, annotation_scales, config)
    for row in found.unimputed.to_dict("records"):
        logger.warning("Trait '%s' is not imputed: %s.", row["trait"], row["reason"])
    return found.traits, found.held_out, found.scores, found.calibration, found.unimputed


def draw_reliability(
    held_out_predictions: pd.DataFrame, imputation_calibration: pd.DataFrame, config: ImputationConfig
) -> Figure:
    """Reliability of the class traits, held out by neurite."""
    n_bins = config.gaussian_processes.n_bins
    tables = _by_label(held_out_predictions, "class")
    given_out = {label: _reliability(table, "mean", n_bins) for label, table in tables.items()}
    stated = {label: _reliability(table, "stated_mean", n_bins) for label, table in tables.items()}
    notes = {}
    for label, row in _calibration_by_label(imputation_calibration).items():
        error, chance = row["expected_calibration_error"], row["calibration_error_by_chance"]
        debiased = row["debiased_calibration_error"]
        notes[label] = f"calibration error {error:.3f}\n({chance:.3f} by chance alone)\ndebiased {debiased:.3f}"
    return reliability_diagram(given_out, stated, notes)


def draw_predictions(
    held_out_predictions: pd.DataFrame, imputation_scores: pd.DataFrame, imputation_calibration: pd.DataFrame
) -> Figure:
    """Prediction against measurement of the continuous traits, held out by neurite."""
    tables = _by_label(held_out_predictions, "continuous")
    document = imputation_document(imputation_scores, imputation_calibration)
    notes = {}
    for trait in TRAITS:
        if trait.label in tables:
            of_neurites = document[trait.name]["by_neurite"]
            notes[trait.label] = (
                f"explained variance {of_neurites['mean']:.2f} ± {of_neurites['std']:.2f}\n"
                f"90 % interval holds {100 * of_neurites['coverage_90']:.0f} %"
            )
    return predicted_against_measured(tables, notes)


def measure_learning_curves(
    synapse_embeddings: AnnData, mask_statistics: pd.DataFrame, config: ImputationConfig
) -> pd.DataFrame:
    """Score the imputation with growing numbers of labels."""
    features_nf = process_features(synapse_embeddings, mask_statistics, config.gaussian_processes)
    return learning_curves(features_nf, synapse_embeddings.obs, config)


def draw_learning_curves(curves: pd.DataFrame) -> Figure:
    """Scores against labels."""
    return learning_curve_figure(summarise_learning_curves(curves), {trait.name: trait.label for trait in TRAITS})


def _by_label(held_out: pd.DataFrame, kind: str) -> dict[str, pd.DataFrame]:
    """Predictions held out by neurite, per trait of a kind, by the trait's label."""
    by_neurite = held_out[held_out["split"] == "neurite"]
    tables = {trait.label: by_neurite[by_neurite["trait"] == trait.name] for trait in TRAITS if trait.kind == kind}
    return {label: table for label, table in tables.items() if len(table)}


def _calibration_by_label(calibration: pd.DataFrame) -> dict[str, dict[Hashable, Any]]:
    given_out = calibration[(calibration["split"] == "neurite") & calibration["is_corrected"].astype(bool)]
    rows = {row["trait"]: row for row in given_out.to_dict("records")}
    return {trait.label: rows[trait.name] for trait in TRAITS if trait.kind == "class" and trait.name in rows}


def _reliability(table: pd.DataFrame, column: str, n_bins: int) -> pd.DataFrame:
    return reliability_table(table[column].to_numpy(), table["target"].to_numpy(), n_bins)
