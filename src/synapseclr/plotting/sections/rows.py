"""Rows of example synapses, such as those along an axis: one EM section each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from synapseclr.plotting.sections.section import draw_section, mask_legend
from synapseclr.plotting.theme import CLASS_COLOURS, INK, new_figure, note, panel_grid

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_LABEL_IN = 1.25


def section_rows(
    chunk_rkcxyz: Sequence[np.ndarray],
    row_labels: Sequence[str],
    titles: Sequence[Sequence[str]],
    voxel_size_nm: Sequence[float],
    opacity: float = 0.22,
    gap_after: int | None = None,
) -> Figure:
    """Draw rows of synapses with a label before each row.

    Args:
        chunk_rkcxyz: Per row uint8 (k, 2, x, y, z); rows may be of different length.
        row_labels: What each row shows.
        titles: Per row, a heading per synapse.
        voxel_size_nm: Voxel size (x, y, z).
        opacity: Opacity of the masks.
        gap_after: Position after which a line separates two halves of every row.

    Returns:
        A figure with one pair of axes per synapse. Without rows, a figure that says so.
    """
    if not len(chunk_rkcxyz):
        figure = new_figure(5.0, 1.5)
        axes = figure.add_subplot()
        axes.set_axis_off()
        note(axes, "no synapses to show")
        return figure
    columns = max(len(row) for row in chunk_rkcxyz)
    figure, grid = panel_grid(len(chunk_rkcxyz) * columns, columns, (1.35, 1.35), above_in=0.32, foot_in=0.35)
    width_in, height_in = figure.get_size_inches()
    figure.set_size_inches(width_in + _LABEL_IN, height_in)
    shrink = width_in / (width_in + _LABEL_IN)
    for axes in grid:
        x, y, width, height = axes.get_position().bounds
        axes.set_position((1 - shrink + x * shrink, y, width * shrink, height))
    for row, chunks in enumerate(chunk_rkcxyz):
        for column in range(columns):
            axes = grid[row * columns + column]
            if column >= len(chunks):
                axes.set_axis_off()
                continue
            draw_section(axes, chunks[column], voxel_size_nm, opacity=opacity, scale_bar=column == 0)
            axes.set_title(titles[row][column], loc="left", fontsize=6.5, color=INK, pad=3)
            if gap_after is not None and column == gap_after:
                x = 1.0 + 0.03
                axes.plot([x, x], [0, 1.15], transform=axes.transAxes, color=CLASS_COLOURS[1], clip_on=False)
        place = grid[row * columns].get_position()
        figure.text(0.008, (place.y0 + place.y1) / 2, row_labels[row], fontsize=8, color=INK, va="center")
    mask_legend(figure)
    return figure
