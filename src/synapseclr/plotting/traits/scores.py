"""Representations compared, trait by trait."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import pandas as pd

from synapseclr.plotting.theme import MUTED, new_figure, note, representation_style, style_axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_METRICS = {"roc_auc": ("ROC AUC", 0.5), "explained_variance": ("explained variance", 0.0)}
_LAYER_MARKERS = {"encoder.fc": "o", "statistics": "o", "projector.mlp.0": "^", "projector.mlp.3": "s"}
_LAYER_LABELS = {"encoder.fc": "backbone", "projector.mlp.0": "projector, middle", "projector.mlp.3": "projector, end"}
_MAIN_LAYERS = ("encoder.fc", "statistics")


def score_comparison(summary: pd.DataFrame, trait_labels: Mapping[str, str], probe: str = "linear") -> Figure:
    """Dots with their spread over folds, per trait and representation.

    Args:
        summary: ``representation``, ``layer``, ``trait``, ``probe``, ``metric``, ``mean``, ``std``, as
            :func:`synapseclr.analysis.imputation.evaluation_document.summarise_scores` returns it.
        trait_labels: Trait name to its name for people; the order of the traits is taken from here.
        probe: Probe to show.

    Returns:
        A figure with one panel for classes (ROC AUC) and one for continuous traits (explained variance). Filled dots
        are backbones, with one standard deviation over folds; small open marks are projector layers. A dashed line is
        chance.
    """
    shown = summary[summary["probe"] == probe]
    style = representation_style(list(dict.fromkeys(shown["representation"])))
    traits = {
        metric: [name for name in trait_labels if name in set(shown.loc[shown["metric"] == metric, "trait"])]
        for metric in _METRICS
    }
    n_rows = max(2, *(len(names) for names in traits.values()))
    figure = new_figure(10.2, 1.3 + 0.5 * n_rows)
    for axes, (metric, (label, chance)) in zip(figure.subplots(1, 2), _METRICS.items(), strict=True):
        style_axes(axes, label, "mean ± standard deviation over folds", grid="x")
        axes.axvline(chance, color=MUTED, linewidth=1, linestyle="--")
        if not traits[metric]:
            axes.set_yticks([])
            note(axes, "no trait could be scored")
            continue
        _draw_panel(axes, shown[shown["metric"] == metric], traits[metric], style)
        axes.set_yticks(range(len(traits[metric])), [trait_labels[name] for name in traits[metric]])
        axes.set_ylim(len(traits[metric]) - 0.5, -0.5)
    _draw_legend(figure, shown, style)
    return figure


def _draw_panel(axes: Axes, scores: pd.DataFrame, traits: list[str], style: Mapping[str, tuple[str, str]]) -> None:
    spacing = 0.56 / max(1, len(style) - 1)
    for index, (name, (_, colour)) in enumerate(style.items()):
        offset = (index - (len(style) - 1) / 2) * spacing
        of_one = scores[scores["representation"] == name]
        for layer, rows in of_one.groupby("layer", sort=False):
            heights = [traits.index(trait) + offset for trait in rows["trait"]]
            marker = _LAYER_MARKERS.get(str(layer), "D")
            if layer in _MAIN_LAYERS:
                axes.errorbar(
                    rows["mean"], heights, xerr=rows["std"], fmt=marker, color=colour, markersize=6, elinewidth=1.4
                )
            else:
                axes.plot(rows["mean"], heights, marker, markersize=4, color=colour, fillstyle="none", alpha=0.8)
    for height in range(1, len(traits)):
        axes.axhline(height - 0.5, color="#f0f0f0", linewidth=0.8, zorder=0)


def _draw_legend(figure: Figure, shown: pd.DataFrame, style: Mapping[str, tuple[str, str]]) -> None:
    from matplotlib.lines import Line2D

    handles = [Line2D([], [], marker="o", linestyle="", color=colour, label=label) for label, colour in style.values()]
    handles += [
        Line2D([], [], marker=_LAYER_MARKERS[layer], linestyle="", color=MUTED, fillstyle="none", label=label)
        for layer, label in _LAYER_LABELS.items()
        if layer not in _MAIN_LAYERS and layer in set(shown["layer"])
    ]
    if handles:
        n_columns = min(4, len(handles))
        figure.legend(handles=handles, loc="outside lower center", ncols=n_columns, frameon=False, fontsize=8)
