"""Defective synapses: found without examples, or by a few that somebody has marked."""

from synapseclr.analysis.outliers.config import OutliersConfig
from synapseclr.analysis.outliers.detection import Detection, detect, ranked_table
from synapseclr.analysis.outliers.evaluation import evaluate_detection, known_defects
from synapseclr.analysis.outliers.exclusion import excluded_table, without_excluded

__all__ = [
    "Detection",
    "OutliersConfig",
    "detect",
    "evaluate_detection",
    "excluded_table",
    "known_defects",
    "ranked_table",
    "without_excluded",
]
