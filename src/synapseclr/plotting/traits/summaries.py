"""Traits by cell types, and what is known of each synapse's traits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from synapseclr.plotting.theme import CYCLE, MUTED, new_figure, note, style_axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_SOURCES = {"measured": ("o", CYCLE[0]), "imputed": ("s", CYCLE[1])}
_COLUMNS = 4


def trait_summary_panels(summaries: pd.DataFrame, class_traits: Mapping[str, str]) -> Figure:
    """Mean of every trait per combination of cell types, measured beside imputed.

    Args:
        summaries: As :func:`synapseclr.analysis.features.trait_summaries` returns it.
        class_traits: Trait to what its fraction counts, for traits that are classes.

    Returns:
        A figure with one panel per trait; bars are 90 % intervals.
    """
    traits = list(dict.fromkeys(summaries["trait"]))
    figure, grid = _grid(len(traits), (2.75, 2.3))
    combinations = list(dict.fromkeys(summaries["combination"]))
    for position, (axes, trait) in enumerate(zip(grid, traits, strict=False)):
        of_trait = summaries[summaries["trait"] == trait]
        style_axes(axes, str(of_trait["label"].iloc[0]), _meaning(trait, class_traits), grid="x")
        axes.title.set_fontsize(8.5)
        for offset, (source, (marker, colour)) in zip((-0.14, 0.14), _SOURCES.items(), strict=True):
            rows = of_trait[of_trait["source"] == source]
            heights = [combinations.index(name) + offset for name in rows["combination"]]
            spread = [rows["mean"] - rows["lower_90"], rows["upper_90"] - rows["mean"]]
            axes.errorbar(
                rows["mean"], heights, xerr=np.maximum(spread, 0), fmt=marker, color=colour, markersize=4, label=source
            )
        axes.set_yticks(range(len(combinations)), combinations if position % _COLUMNS == 0 else [])
        axes.set_ylim(len(combinations) - 0.5, -0.5)
        if position == 0:
            handles, labels = axes.get_legend_handles_labels()
            figure.legend(handles, labels, loc="outside lower center", ncols=2, frameon=False, fontsize=8)
    return figure


def posterior_panels(posteriors: Mapping[str, pd.DataFrame], axis_labels: Mapping[str, str]) -> Figure:
    """What is known of each synapse: posterior mean with its 90 % interval, synapses in order of the mean.

    Args:
        posteriors: Label of the trait to ``mean``, ``lower_90``, ``upper_90``, ``measured`` (NaN where not annotated).
        axis_labels: Label of the trait to that of the ordinate.

    Returns:
        A figure with one panel per trait; dots are measurements, and for classes ticks at 0 and 1.
    """
    figure, grid = _grid(len(posteriors), (2.75, 2.2))
    for position, (axes, (label, table)) in enumerate(zip(grid, posteriors.items(), strict=False)):
        style_axes(axes, label, "synapses, by posterior mean", axis_labels.get(label, ""))
        axes.title.set_fontsize(8.5)
        ordered = table.sort_values("mean", ignore_index=True)
        place = np.arange(len(ordered))
        axes.fill_between(
            place, ordered["lower_90"], ordered["upper_90"], color=CYCLE[0], alpha=0.2, linewidth=0, label="90 %"
        )
        axes.plot(place, ordered["mean"], color=CYCLE[0], linewidth=1.5, label="posterior mean")
        axes.plot(place, ordered["measured"], ".", color=CYCLE[5], markersize=3, alpha=0.7, label="measured")
        axes.set_xticks([])
        if position == 0:
            handles, labels = axes.get_legend_handles_labels()
            figure.legend(handles, labels, loc="outside lower center", ncols=3, frameon=False, fontsize=8)
    return figure


def _meaning(trait: str, class_traits: Mapping[str, str]) -> str:
    return f"share with {class_traits[trait]}" if trait in class_traits else "mean (z-score of the logarithm)"


def _grid(n_panels: int, panel_in: tuple[float, float]) -> tuple[Figure, list[Axes]]:
    """Figure with panels in rows of four; one that says so if there is nothing to show."""
    if not n_panels:
        figure = new_figure(5.0, 1.5)
        axes = figure.add_subplot()
        axes.set_axis_off()
        note(axes, "no trait is annotated or imputed")
        axes.title.set_color(MUTED)
        return figure, []
    columns = min(_COLUMNS, n_panels)
    rows = -(-n_panels // columns)
    figure = new_figure(0.8 + panel_in[0] * columns, 0.5 + panel_in[1] * rows)
    grid = list(np.atleast_1d(figure.subplots(rows, columns)).ravel())
    for axes in grid[n_panels:]:
        axes.set_axis_off()
    return figure, grid[:n_panels]
