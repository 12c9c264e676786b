"""Every figure by one import, for notebooks: what the pipelines draw from their tables, and all of ``plotting``."""

from synapseclr.pipelines.consensus.nodes import (
    draw_censored,
    draw_classes,
    draw_consensus,
)
from synapseclr.pipelines.features.nodes import (
    draw_component_strip,
    draw_component_traits,
    draw_correlations,
    draw_occlusion,
    draw_occlusion_maps,
    draw_posteriors,
    draw_spectra,
    draw_trait_summaries,
)
from synapseclr.pipelines.imputation.nodes import (
    draw_comparison,
    draw_confusions,
    draw_learning_curves,
    draw_predictions,
    draw_reliability,
)
from synapseclr.pipelines.manifold.nodes import (
    draw_axis_profiles,
    draw_axis_strip,
    draw_clusters,
    draw_interactive,
    draw_interactive_3d,
    draw_leakage,
    draw_orientation,
    draw_overlays,
)
from synapseclr.pipelines.outliers.nodes import (
    draw_candidates,
    draw_detection,
)
from synapseclr.pipelines.preprocessing.nodes import (
    draw_first_chunk,
    plot_morphometry,
    plot_preprocessing,
)
from synapseclr.pipelines.pretraining.nodes import (
    draw_augmented_pairs,
    plot_training_curve,
)
from synapseclr.pipelines.similarity.nodes import (
    draw_distances,
    draw_neighbours,
)
from synapseclr.plotting import *  # noqa: F403
from synapseclr.plotting import __all__ as _of_the_library

__all__ = [
    *_of_the_library,
    "draw_augmented_pairs",
    "draw_axis_profiles",
    "draw_axis_strip",
    "draw_candidates",
    "draw_censored",
    "draw_classes",
    "draw_clusters",
    "draw_comparison",
    "draw_component_strip",
    "draw_component_traits",
    "draw_confusions",
    "draw_consensus",
    "draw_correlations",
    "draw_detection",
    "draw_distances",
    "draw_first_chunk",
    "draw_interactive",
    "draw_interactive_3d",
    "draw_leakage",
    "draw_learning_curves",
    "draw_neighbours",
    "draw_occlusion",
    "draw_occlusion_maps",
    "draw_orientation",
    "draw_overlays",
    "draw_posteriors",
    "draw_predictions",
    "draw_reliability",
    "draw_spectra",
    "draw_trait_summaries",
    "plot_morphometry",
    "plot_preprocessing",
    "plot_training_curve",
]
