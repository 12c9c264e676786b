"""EM sections with translucent masks: one, rows and sheets of them, augmented pairs, strips of neighbours."""

from synapseclr.plotting.sections.augmented_pairs import augmented_pairs, view_picture
from synapseclr.plotting.sections.neighbours import distance_panels, neighbour_strips
from synapseclr.plotting.sections.rows import section_rows
from synapseclr.plotting.sections.section import (
    CLEFT_CODE,
    contact_sheet,
    draw_section,
    mask_legend,
    mask_overlay,
    richest_section,
    scale_bar_length_nm,
    synapse_section,
)

__all__ = [
    "CLEFT_CODE",
    "augmented_pairs",
    "contact_sheet",
    "distance_panels",
    "draw_section",
    "mask_legend",
    "mask_overlay",
    "neighbour_strips",
    "richest_section",
    "scale_bar_length_nm",
    "section_rows",
    "synapse_section",
    "view_picture",
]
