"""Scores against the number of labels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import pandas as pd

from synapseclr.plotting.theme import CYCLE, MUTED, legend, new_figure, note, style_axes

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_PANELS = {"roc_auc": ("ROC AUC", 0.5), "explained_variance": ("explained variance", 0.0)}
_MARKERS = ("o", "s", "^", "D", "v")


def learning_curve_figure(summary: pd.DataFrame, trait_labels: Mapping[str, str]) -> Figure:
    """Draw classes on the left, continuous traits on the right.

    Args:
        summary: ``trait, metric, fraction, mean, std, n_train``, as
            :func:`synapseclr.analysis.imputation.learning_curves.summarise_learning_curves` returns it.
        trait_labels: Trait name to its name for people.

    Returns:
        A figure with a logarithmic axis of labelled synapses; bands are one standard deviation over repetitions, the
        dashed line is chance.
    """
    figure = new_figure(9.8, 4.2)
    for axes, (metric, (label, chance)) in zip(figure.subplots(1, 2), _PANELS.items(), strict=True):
        style_axes(axes, label, "labelled synapses in training", "", grid="both")
        axes.axhline(chance, color=MUTED, linewidth=1, linestyle="--")
        shown = summary[summary["metric"] == metric]
        if shown.empty:
            axes.set_xticks([])
            axes.set_yticks([])
            note(axes, "no trait could be scored")
            continue
        for number, (trait, rows) in enumerate(shown.groupby("trait", sort=False)):
            rows = rows.sort_values("n_train")
            colour = CYCLE[number % len(CYCLE)]
            axes.fill_between(
                rows["n_train"], rows["mean"] - rows["std"], rows["mean"] + rows["std"], color=colour, alpha=0.12, lw=0
            )
            axes.plot(
                rows["n_train"],
                rows["mean"],
                color=colour,
                marker=_MARKERS[number % len(_MARKERS)],
                markersize=4.5,
                linewidth=1.4,
                label=trait_labels.get(str(trait), str(trait)),
            )
        axes.set_xscale("log")
        lowest = float((shown["mean"] - shown["std"]).min())
        axes.set_ylim(max(lowest - 0.03, chance - 0.4), min(1.02, float((shown["mean"] + shown["std"]).max()) + 0.05))
        legend(axes, loc="upper left")
    return figure
