"""Nodes of the consensus pipeline."""

from __future__ import annotations

import logging
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import pandas as pd

from synapseclr.analysis.calibration import reliability_table
from synapseclr.analysis.config import ConsensusConfig
from synapseclr.analysis.consensus import neurite_posteriors, synapse_evidence
from synapseclr.analysis.consensus_evaluation import evaluate_consensus
from synapseclr.plotting.consensus import consensus_figure

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
