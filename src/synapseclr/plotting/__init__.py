"""Figures of chunks, manifolds, scores and runs. Every function returns a figure, none of them saves one."""

from synapseclr.plotting.histograms import morphometry_histograms, preprocessing_histograms
from synapseclr.plotting.manifold import (
    Overlay,
    axis_profile_panels,
    cluster_map,
    interactive_scatter,
    leakage_panel,
    scatter_panels,
)
from synapseclr.plotting.renders import (
    interactive_scene,
    orthogonal_views,
    render_sheet,
    render_synapse,
    section_viewer,
    synapse_scene,
)
from synapseclr.plotting.report import render_report
from synapseclr.plotting.searches import detection_figure, distance_panels, neighbour_strips
from synapseclr.plotting.sections import augmented_pairs, contact_sheet, section_rows, synapse_section, view_picture
from synapseclr.plotting.theme import (
    CLASS_COLOURS,
    CYCLE,
    UNKNOWN,
    figure_png,
    new_figure,
    panel_grid,
    style_axes,
    style_image,
)
from synapseclr.plotting.training import training_curve, training_figure
from synapseclr.plotting.traits import score_comparison

__all__ = [
    "CLASS_COLOURS",
    "CYCLE",
    "UNKNOWN",
    "Overlay",
    "augmented_pairs",
    "axis_profile_panels",
    "cluster_map",
    "contact_sheet",
    "detection_figure",
    "distance_panels",
    "figure_png",
    "interactive_scatter",
    "interactive_scene",
    "leakage_panel",
    "morphometry_histograms",
    "neighbour_strips",
    "new_figure",
    "orthogonal_views",
    "panel_grid",
    "preprocessing_histograms",
    "render_report",
    "render_sheet",
    "render_synapse",
    "scatter_panels",
    "score_comparison",
    "section_rows",
    "section_viewer",
    "style_axes",
    "style_image",
    "synapse_scene",
    "synapse_section",
    "training_curve",
    "training_figure",
    "view_picture",
]
