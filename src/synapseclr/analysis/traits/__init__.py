"""Annotated traits: what they are, folds on which they are scored, probes that read them off features, calibration."""

from synapseclr.analysis.traits.calibration import (
    BetaCalibration,
    calibration_of_classes,
    calibration_of_intervals,
    calibration_of_several,
    grouped_interval,
    reliability_table,
)
from synapseclr.analysis.traits.folds import Fold, TraitSplit, UnscorableTraitError, grouped_folds, split_trait
from synapseclr.analysis.traits.probes import balanced_accuracy, fold_score, knn_probe, linear_probe
from synapseclr.volumes.traits import (
    TRAITS,
    Metric,
    Trait,
    Traits,
    class_columns,
    class_texts,
    class_traits,
    counted_classes,
    neurite_properties,
    trait_named,
    trait_values,
    values_by_class,
)

__all__ = [
    "TRAITS",
    "BetaCalibration",
    "Fold",
    "Metric",
    "Trait",
    "TraitSplit",
    "Traits",
    "UnscorableTraitError",
    "balanced_accuracy",
    "calibration_of_classes",
    "calibration_of_intervals",
    "calibration_of_several",
    "class_columns",
    "class_texts",
    "class_traits",
    "counted_classes",
    "fold_score",
    "grouped_folds",
    "grouped_interval",
    "knn_probe",
    "linear_probe",
    "neurite_properties",
    "reliability_table",
    "split_trait",
    "trait_named",
    "trait_values",
    "values_by_class",
]
