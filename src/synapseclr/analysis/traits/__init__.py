"""Annotated traits: what they are, folds on which they are scored, probes that read them off features, calibration."""

from synapseclr.analysis.traits.calibration import (
    BetaCalibration,
    calibration_of_classes,
    calibration_of_intervals,
    grouped_interval,
    reliability_table,
)
from synapseclr.analysis.traits.definitions import TRAITS, Metric, Trait, trait_named, trait_values
from synapseclr.analysis.traits.folds import Fold, TraitSplit, UnscorableTraitError, grouped_folds, split_trait
from synapseclr.analysis.traits.probes import fold_score, knn_probe, linear_probe

__all__ = [
    "TRAITS",
    "BetaCalibration",
    "Fold",
    "Metric",
    "Trait",
    "TraitSplit",
    "UnscorableTraitError",
    "calibration_of_classes",
    "calibration_of_intervals",
    "fold_score",
    "grouped_folds",
    "grouped_interval",
    "knn_probe",
    "linear_probe",
    "reliability_table",
    "split_trait",
    "trait_named",
    "trait_values",
]
