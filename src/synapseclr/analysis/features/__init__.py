"""What the features are made of: their correlations and components, and what these have to do with traits."""

from synapseclr.analysis.features.components import component_examples, component_traits
from synapseclr.analysis.features.config import FeaturesConfig
from synapseclr.analysis.features.correlation import FeatureClusters, cluster_features
from synapseclr.analysis.features.spectra import layer_spectra, spectrum_metrics
from synapseclr.analysis.features.summaries import trait_summaries

__all__ = [
    "FeatureClusters",
    "FeaturesConfig",
    "cluster_features",
    "component_examples",
    "component_traits",
    "layer_spectra",
    "spectrum_metrics",
    "trait_summaries",
]
