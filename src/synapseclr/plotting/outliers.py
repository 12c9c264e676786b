"""How well known defects are found, by representation and number of examples."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from synapseclr.plotting.theme import MUTED, legend, new_figure, note, representation_style, style_axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_MAIN_LAYERS = ("encoder.fc", "statistics")
_METHODS = ("examples", "mahalanobis")
_ALL_KINDS = "all kinds"


def detection_figure(detection: pd.DataFrame) -> Figure:
    """Draw ROC AUC and precision over the number of examples, and ROC AUC per kind of defect.

    Args:
        detection: ``representation``, ``layer``, ``method``, ``kind``, ``n_examples``, ``metric``, ``mean``, ``std``,
            as :func:`synapseclr.analysis.outliers.evaluate_detection` returns it. Backbones and image statistics are
            drawn.

    Returns:
        A figure with three panels. Bars are one standard deviation over draws of the examples; dashed is chance.
    """
    shown = detection[detection["layer"].isin(_MAIN_LAYERS)]
    figure = new_figure(10.6, 3.5)
    left, middle, right = figure.subplots(1, 3, width_ratios=(1, 1, 1.15))
    if shown.empty:
        for axes in (left, middle, right):
            style_axes(axes)
        note(middle, "no defects are known here")
        return figure
    style = representation_style(list(dict.fromkeys(shown["representation"])))
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
    axes.text(len(left) - 1, heights.iloc[-1] + 0.02, "attainable", ha="center", fontsize=7.5, color=MUTED)


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
