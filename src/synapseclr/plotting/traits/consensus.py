"""Cell types of neurites: how reliable the posterior is, and what further synapses bring."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from synapseclr.plotting.theme import CYCLE, MUTED, legend, new_figure, note, style_axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_COLOURS = {"corrected": CYCLE[0], "independent": CYCLE[1]}
_LABELS = {"corrected": "shared errors accounted for", "independent": "as if independent"}


def consensus_figure(reliability: Mapping[str, pd.DataFrame], evaluation: pd.DataFrame) -> Figure:
    """Draw reliability on the left, accuracy by synapses per neurite on the right.

    Args:
        reliability: ``corrected`` and ``independent`` to their reliability tables.
        evaluation: From :func:`synapseclr.analysis.consensus.evaluate_consensus`.

    Returns:
        A figure; it says so where there were no annotated neurites to test on.
    """
    figure = new_figure(9.6, 4.0)
    left, right = figure.subplots(1, 2)
    style_axes(left, "Reliability, held-out neurites", "posterior probability", "observed frequency", grid="both")
    style_axes(right, "Accuracy by annotated synapses per neurite", "", "accuracy, 90 % interval", grid="y")
    if not reliability:
        for axes in (left, right):
            axes.set_xticks([])
            axes.set_yticks([])
            note(axes, "too few annotated neurites to test on")
        return figure
    left.plot([0, 1], [0, 1], color=MUTED, linewidth=1, linestyle="--")
    for number, (method, table) in enumerate(reliability.items()):
        spread = [table["frequency"] - table["lower"], table["upper"] - table["frequency"]]
        left.errorbar(
            table["probability"] + 0.006 * number,
            table["frequency"],
            yerr=np.maximum(spread, 0.0),
            fmt="o-",
            color=_COLOURS[method],
            markersize=4.5,
            linewidth=1.2,
            label=_LABELS[method],
        )
    legend(left, loc="upper left")
    _draw_accuracy(right, evaluation[evaluation["method"] == "corrected"])
    return figure


def _draw_accuracy(axes: Axes, rows: pd.DataFrame) -> None:
    places = np.arange(len(rows))
    spread = [rows["accuracy"] - rows["lower_90"], rows["upper_90"] - rows["accuracy"]]
    axes.errorbar(places, rows["accuracy"], yerr=spread, fmt="o", color=CYCLE[0], markersize=6, label="neurite")
    axes.plot(places, rows["synapse_accuracy"], "_", color=MUTED, markersize=18, label="its single synapses")
    axes.plot(places + 0.18, rows["accuracy_called"], "^", color=CYCLE[2], markersize=6, label="neurites with a type")
    labels = [
        f"{row['stratum']}\n{row['n_neurites']} neurites\n{100 * row['called']:.0f} % typed"
        for row in rows.to_dict("records")
    ]
    axes.set_xticks(places, labels)
    axes.set_xlim(-0.5, len(rows) - 0.4)
    axes.set_ylim(0, 1.03)
    axes.axhline(0.5, color=MUTED, linewidth=1, linestyle="--")
    legend(axes, loc="lower right")


def censored_figure(censored: pd.DataFrame) -> Figure:
    """Accuracy with few labels: one panel per class of synapses per neurite.

    Args:
        censored: Evaluation by label fraction, from
            :func:`synapseclr.analysis.consensus.evaluate_censored`.

    Returns:
        A figure; bars are 90 % intervals over neurites. It says so where no fraction could be evaluated.
    """
    rows = censored[censored["method"] == "corrected"]
    strata = list(dict.fromkeys(rows["stratum"]))
    figure = new_figure(2.6 * max(2, len(strata)) + 0.6, 3.4)
    if not strata:
        axes = figure.add_subplot()
        axes.set_axis_off()
        note(axes, "no fraction of labels was enough to type neurites")
        return figure
    for number, (axes, stratum) in enumerate(
        zip(np.atleast_1d(figure.subplots(1, len(strata), sharey=True)), strata, strict=True)
    ):
        of_one = rows[rows["stratum"] == stratum].sort_values("fraction")
        title = "all neurites" if stratum == "all" else f"{stratum} synapses"
        style_axes(axes, title, "synapses labelled, %", "accuracy" if number == 0 else "", grid="y")
        places = np.arange(len(of_one))
        spread = [of_one["accuracy"] - of_one["lower_90"], of_one["upper_90"] - of_one["accuracy"]]
        axes.errorbar(places, of_one["accuracy"], yerr=spread, fmt="o-", color=CYCLE[0], markersize=5, label="neurites")
        axes.plot(
            places, of_one["synapse_accuracy"], "_", color=MUTED, markersize=16, mew=2, label="their single synapses"
        )
        axes.axhline(0.5, color=MUTED, linewidth=1, linestyle="--")
        axes.set_xticks(places, [f"{100 * fraction:g}" for fraction in of_one["fraction"]])
        axes.set_xlim(-0.5, len(of_one) - 0.5)
        if number == 0:
            legend(axes, loc="lower right")
    return figure
