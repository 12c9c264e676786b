"""Traits: scores of representations, imputed values, learning curves, cell types of neurites, summaries."""

from synapseclr.plotting.traits.consensus import censored_figure, consensus_figure
from synapseclr.plotting.traits.imputation import predicted_against_measured, reliability_diagram
from synapseclr.plotting.traits.learning_curves import learning_curve_figure
from synapseclr.plotting.traits.scores import score_comparison
from synapseclr.plotting.traits.summaries import posterior_panels, trait_summary_panels

__all__ = [
    "censored_figure",
    "consensus_figure",
    "learning_curve_figure",
    "posterior_panels",
    "predicted_against_measured",
    "reliability_diagram",
    "score_comparison",
    "trait_summary_panels",
]
