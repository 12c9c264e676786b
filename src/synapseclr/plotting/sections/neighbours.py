"""Query synapses with their nearest neighbours beside them, and how far all others lie."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from synapseclr.plotting.sections.section import draw_section, mask_legend
from synapseclr.plotting.theme import CLASS_COLOURS, CYCLE, INK, legend, new_figure, panel_grid, style_axes

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure


def neighbour_strips(
    chunk_qkcxyz: Sequence[np.ndarray],
    synapse_id_qk: np.ndarray,
    distance_qk: np.ndarray,
    voxel_size_nm: Sequence[float],
    opacity: float = 0.22,
    n_examples: int = 1,
) -> Figure:
    """Draw one row per query: its examples, framed, then its neighbours, nearest first.

    Args:
        chunk_qkcxyz: Per query uint8 (e + k, 2, x, y, z): the chunks of its examples, then those of its k neighbours.
        synapse_id_qk: int64 (q, e + k): their ids.
        distance_qk: float (q, k): distances of the neighbours.
        voxel_size_nm: Voxel size (x, y, z).
        opacity: Opacity of the masks.
        n_examples: e, examples shown per query.

    Returns:
        A figure with q rows of e + k axes.
    """
    n_queries, columns = synapse_id_qk.shape
    figure, grid = panel_grid(n_queries * columns, columns, (1.5, 1.5), above_in=0.32, foot_in=0.35)
    for row in range(n_queries):
        for column in range(columns):
            axes = grid[row * columns + column]
            is_query = column < n_examples
            draw_section(axes, chunk_qkcxyz[row][column], voxel_size_nm, opacity=opacity, scale_bar=column == 0)
            distance = "query" if is_query else f"d = {distance_qk[row, column - n_examples]:.3g}"
            axes.set_title(f"{synapse_id_qk[row, column]}\n{distance}", loc="left", fontsize=6.5, color=INK, pad=3)
            if is_query:
                axes.spines[:].set_color(CLASS_COLOURS[1])
                axes.spines[:].set_linewidth(2.2)
    mask_legend(figure)
    return figure


def distance_panels(histograms: pd.DataFrame, results: pd.DataFrame, columns: int = 3) -> Figure:
    """Draw, per query, how far all synapses lie and which of them were listed.

    Args:
        histograms: ``query``, ``distance_from``, ``distance_to``, ``n_synapses``.
        results: ``query``, ``rank``, ``distance``; ranks from 1 on are marked.
        columns: Panels per row.

    Returns:
        A figure with one panel per query, all on the same abscissa.
    """
    names = list(dict.fromkeys(histograms["query"]))
    columns = min(columns, len(names))
    rows = -(-len(names) // columns)
    figure = new_figure(3.3 * columns, 0.6 + 1.9 * rows)
    grid = np.atleast_1d(figure.subplots(rows, columns, sharex=True)).ravel()
    for axes in grid[len(names) :]:
        axes.set_axis_off()
    for position, (axes, name) in enumerate(zip(grid, names, strict=False)):
        bins = histograms[histograms["query"] == name]
        listed = results[(results["query"] == name) & (results["rank"] > 0)]
        title = name if len(name) <= 32 else f"{name[:30]}…"
        bottom = position + columns >= len(names)
        style_axes(axes, title, "Euclidean distance" if bottom else "", "" if position % columns else "synapses", "y")
        width_b = bins["distance_to"] - bins["distance_from"]
        axes.bar(bins["distance_from"], bins["n_synapses"], width_b, align="edge", color=CYCLE[0], label="all synapses")
        axes.eventplot(
            listed["distance"].to_numpy(),
            lineoffsets=-0.06 * max(1, int(bins["n_synapses"].max())),
            linelengths=0.09 * max(1, int(bins["n_synapses"].max())),
            colors=CLASS_COLOURS[1],
            linewidths=1.1,
            label="neighbours listed",
        )
        axes.set_yticks([tick for tick in axes.get_yticks() if tick >= 0])
        if position == 0:
            legend(axes, loc="upper right")
    return figure
