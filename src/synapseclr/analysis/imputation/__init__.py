"""Imputation of traits, scores of traits on representations, and learning curves over the number of labels."""

from synapseclr.analysis.imputation.evaluation_document import (
    comparison_table,
    evaluation_metrics,
    score_document,
    summarise_scores,
)
from synapseclr.analysis.imputation.learning_curves import learning_curves, summarise_learning_curves
from synapseclr.analysis.imputation.trait_scores import score_representations

__all__ = [
    "comparison_table",
    "evaluation_metrics",
    "learning_curves",
    "score_document",
    "score_representations",
    "summarise_learning_curves",
    "summarise_scores",
]
