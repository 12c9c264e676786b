"""Figures of searches: queries with their nearest neighbours, their distances, and known defects found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from synapseclr.plotting.sections import draw_section, mask_legend
from synapseclr.plotting.theme import (
    CLASS_COLOURS,
    CYCLE,
    INK,
    MAIN_LAYERS,
    MUTED,
    REPRESENTATION_LABELS,
    SMALL_PT,
    WIDEST_IN,
    fitting_panel_in,
    legend,
    mark_synapse,
    new_figure,
    note,
    panel_grid,
    representation_style,
    style_axes,
    subplot_grid,
)

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_METHODS = ("examples", "mahalanobis")
_ALL_KINDS = "all kinds"


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
    side_in = fitting_panel_in(1.5, columns)
    figure, grid = panel_grid(n_queries * columns, columns, (side_in, side_in), above_in=0.34, foot_in=0.35)
    for row in range(n_queries):
        for column in range(columns):
            axes = grid[row * columns + column]
            is_query = column < n_examples
            draw_section(axes, chunk_qkcxyz[row][column], voxel_size_nm, opacity=opacity, scale_bar=column == 0)
            distance = "query" if is_query else f"d = {distance_qk[row, column - n_examples]:.3g}"
            axes.set_title(f"{synapse_id_qk[row, column]}\n{distance}", loc="left", fontsize=SMALL_PT, color=INK, pad=3)
            mark_synapse(axes, synapse_id_qk[row, column])
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
    figure, grid = subplot_grid(len(names), columns, (3.3, 1.9), (0.0, 0.6), sharex=True)
    columns = min(columns, len(names))
    for position, (axes, name) in enumerate(zip(grid, names, strict=True)):
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
        mark_synapse(axes, name)
        if position == 0:
            legend(axes, loc="upper right")
    return figure


def detection_figure(detection: pd.DataFrame, labels: Mapping[str, str] = REPRESENTATION_LABELS) -> Figure:
    """Draw ROC AUC and precision over the number of examples, and ROC AUC per kind of defect.

    Args:
        detection: ``representation``, ``layer``, ``method``, ``kind``, ``n_examples``, ``metric``, ``mean``, ``std``,
            as :func:`synapseclr.analysis.outliers.evaluate_detection` returns it. Backbones and image statistics are
            drawn.
        labels: Names of the representations for people.

    Returns:
        A figure with three panels. Bars are one standard deviation over draws of the examples; dashed is chance.
    """
    shown = detection[detection["layer"].isin(MAIN_LAYERS)]
    figure = new_figure(WIDEST_IN, 3.5)
    left, middle, right = figure.subplots(1, 3, width_ratios=(1, 1, 1.15))
    if shown.empty:
        for axes in (left, middle, right):
            style_axes(axes)
        note(middle, "no defects are known here")
        return figure
    style = representation_style(list(dict.fromkeys(shown["representation"])), labels)
    precision = next(metric for metric in shown["metric"] if metric != "roc_auc")
    _over_examples(left, shown[shown["metric"] == "roc_auc"], style, "ROC AUC")
    left.axhline(0.5, color=MUTED, linewidth=1, linestyle="--")
    _over_examples(middle, shown[shown["metric"] == precision], style, precision.replace("_", " "))
    _attainable(middle, shown[shown["metric"] == precision])
    _per_kind(right, shown[shown["metric"] == "roc_auc"], style)
    legend(left, loc="lower right")
    return figure


def _over_examples(axes: Axes, scores: pd.DataFrame, style: dict[str, tuple[str, str]], title: str) -> None:
    overall = scores[(scores["kind"] == _ALL_KINDS) & scores["method"].isin(_METHODS)]
    numbers = sorted(set(overall["n_examples"]))
    for index, (name, (label, colour)) in enumerate(style.items()):
        rows = overall[overall["representation"] == name].sort_values("n_examples")
        places = [numbers.index(number) + 0.06 * (index - len(style) / 2) for number in rows["n_examples"]]
        axes.errorbar(places, rows["mean"], yerr=rows["std"], fmt="o-", color=colour, label=label, markersize=5, lw=1.3)
    style_axes(axes, title, "marked examples", grid="y")
    axes.set_xticks(range(len(numbers)), [str(number) if number else "none" for number in numbers])
    axes.set_xlim(-0.5, len(numbers) - 0.5)
    axes.set_ylim(0, 1.03)


def _attainable(axes: Axes, precision: pd.DataFrame) -> None:
    """Mark the greatest precision there can be: few defects are left to find once many are given as examples."""
    overall = precision[(precision["kind"] == _ALL_KINDS) & precision["method"].isin(_METHODS)]
    k = int(str(overall["metric"].iloc[0]).rsplit("_", 1)[-1])
    left = overall.drop_duplicates("n_examples").sort_values("n_examples")
    heights = (left["n_defects"] - left["n_examples"]).clip(upper=k) / k
    axes.plot(range(len(left)), heights, "_", color=MUTED, markersize=22, label="attainable")
    axes.text(len(left) - 1, heights.iloc[-1] + 0.02, "attainable", ha="center", fontsize=SMALL_PT, color=MUTED)


def _per_kind(axes: Axes, scores: pd.DataFrame, style: dict[str, tuple[str, str]]) -> None:
    per_kind = scores[scores["kind"] != _ALL_KINDS]
    one_shot = per_kind[per_kind["method"] == "examples"]
    kinds = sorted(set(one_shot["kind"]))
    if not kinds:
        style_axes(axes)
        note(axes, "no kind of defect occurs twice")
        return
    for index, (name, (_, colour)) in enumerate(style.items()):
        rows = one_shot[one_shot["representation"] == name]
        heights = [kinds.index(kind) + 0.18 * (index - (len(style) - 1) / 2) for kind in rows["kind"]]
        axes.errorbar(rows["mean"], heights, xerr=rows["std"], fmt="o", color=colour, markersize=5, elinewidth=1.3)
    style_axes(axes, "ROC AUC, one example of the same kind", grid="x")
    axes.axvline(0.5, color=MUTED, linewidth=1, linestyle="--")
    axes.set_xlim(0, 1.03)
    axes.set_yticks(range(len(kinds)), [kind.replace("_", " ") for kind in kinds])
    axes.set_ylim(len(kinds) - 0.5, -0.5)
