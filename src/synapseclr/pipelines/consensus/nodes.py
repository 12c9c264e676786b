"""Nodes of the consensus pipeline."""

from __future__ import annotations

import logging
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import pandas as pd

from synapseclr.analysis.config import ConsensusConfig, ImputationConfig
from synapseclr.analysis.consensus import evaluate_censored, evaluate_consensus, neurite_posteriors, synapse_evidence
from synapseclr.analysis.gaussian_processes.kernels import process_features
from synapseclr.analysis.traits.calibration import reliability_table
from synapseclr.plotting.traits.consensus import censored_figure, consensus_figure

if TYPE_CHECKING:
    from anndata import AnnData
    from matplotlib.figure import Figure
else:
    # Kedro resolves the hints of node functions when the project starts; these types are too heavy to import then.
    AnnData = Figure = Any

logger = logging.getLogger(__name__)


def type_neurites(
    imputed_traits: pd.DataFrame, synapse_embeddings: AnnData, config: ConsensusConfig
) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame, dict[str, float]]:
    """Give every neurite a cell type, or say that the evidence does not do.

    Returns:
        The neurites, the held-out ones, their evaluation, and the fitted slope, correlation and prior.
    """
    evidence = synapse_evidence(imputed_traits, synapse_embeddings.obs)
    if evidence.empty:
        logger.warning("No neurite is typed: the cell type of no side was imputed.")
    neurites, held_out, fit = neurite_posteriors(evidence, config)
    return neurites, held_out, evaluate_consensus(held_out, config), asdict(fit)


def draw_consensus(
    held_out_neurites: pd.DataFrame, consensus_evaluation: pd.DataFrame, config: ConsensusConfig
) -> Figure:
    """Reliability of the posterior, corrected and independent, and accuracy by synapses per neurite."""
    tables = {}
    if len(held_out_neurites):
        target_u = held_out_neurites["target"].to_numpy(dtype=float)
        for method, column in (("corrected", "probability"), ("independent", "independent_probability")):
            probability_u = held_out_neurites[column].to_numpy(dtype=float)
            tables[method] = reliability_table(probability_u, target_u, config.n_bins)
    return consensus_figure(tables, consensus_evaluation)


def type_with_few_labels(
    synapse_embeddings: AnnData,
    mask_statistics: pd.DataFrame,
    config: ConsensusConfig,
    imputation: ImputationConfig,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Test the typing of neurites with all but a few annotations hidden.

    Returns:
        The evaluation by label fraction, and the draws that could not be evaluated with the reason.
    """
    features_nf = process_features(synapse_embeddings, mask_statistics, imputation.gaussian_processes)
    found = evaluate_censored(features_nf, synapse_embeddings.obs, config, imputation)
    for fraction, of_one in found.failed.groupby("fraction", sort=False):
        logger.warning(
            "Typing with %g %% labels: %d of %d draws are not evaluated: %s.",
            *(100 * float(str(fraction)), len(of_one), config.n_label_seeds, of_one["reason"].iloc[0]),
        )
    return found.evaluation, found.failed


def draw_censored(censored_consensus: pd.DataFrame) -> Figure:
    """Accuracy of neurites and of single synapses against the fraction of labels, by synapses per neurite."""
    return censored_figure(censored_consensus)
