"""Query synapses with their nearest neighbours beside them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from synapseclr.plotting.sections import draw_section, mask_legend
from synapseclr.plotting.theme import CLASS_COLOURS, INK, panel_grid

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def neighbour_strips(
    chunk_qkcxyz: Sequence[np.ndarray],
    synapse_id_qk: np.ndarray,
    distance_qk: np.ndarray,
    voxel_size_nm: Sequence[float],
    opacity: float = 0.22,
) -> Figure:
    """Draw one row per query: the query, framed, then its neighbours, nearest first.

    Args:
        chunk_qkcxyz: Per query uint8 (1 + k, 2, x, y, z): the query's chunk, then those of its k neighbours.
        synapse_id_qk: int64 (q, 1 + k): their ids.
        distance_qk: float (q, k): distances of the neighbours.
        voxel_size_nm: Voxel size (x, y, z).
        opacity: Opacity of the masks.

    Returns:
        A figure with q rows of 1 + k axes.
    """
    n_queries, columns = synapse_id_qk.shape
    figure, grid = panel_grid(n_queries * columns, columns, (1.5, 1.5), above_in=0.32, foot_in=0.35)
    for row in range(n_queries):
        for column in range(columns):
            axes = grid[row * columns + column]
            is_query = column == 0
            draw_section(axes, chunk_qkcxyz[row][column], voxel_size_nm, opacity=opacity, scale_bar=is_query)
            distance = "query" if is_query else f"d = {distance_qk[row, column - 1]:.3g}"
            axes.set_title(f"{synapse_id_qk[row, column]}\n{distance}", loc="left", fontsize=6.5, color=INK, pad=3)
            if is_query:
                axes.spines[:].set_color(CLASS_COLOURS[1])
                axes.spines[:].set_linewidth(2.2)
    mask_legend(figure)
    return figure
