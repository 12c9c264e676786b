"""Imputed traits against measured ones, and stated probabilities against observed frequencies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from synapseclr.plotting.theme import CYCLE, INK, MUTED, legend, new_figure, note, style_axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_HALF_90 = 1.6448536269514722
_MAX_POINTS = 150


def reliability_diagram(
    given_out: Mapping[str, pd.DataFrame], stated: Mapping[str, pd.DataFrame], notes: Mapping[str, str]
) -> Figure:
    """Observed frequency against stated probability, one panel per class trait.

    Args:
        given_out: Label of the trait to its reliability table (``probability, frequency, lower, upper``), after the
            correction.
        stated: The same before the correction, drawn faintly.
        notes: Label to a line of text for the panel.

    Returns:
        A figure; a perfectly calibrated trait lies on the dashed diagonal.
    """
    if not given_out:
        return _empty("no class trait could be imputed")
    figure = new_figure(3.0 * max(2, len(given_out)), 3.3)
    for axes, (label, table) in zip(_panels(figure, len(given_out)), given_out.items(), strict=True):
        first = axes is figure.axes[0]
        style_axes(axes, label, "stated probability", "observed frequency" if first else "", grid="both")
        axes.plot([0, 1], [0, 1], color=MUTED, linewidth=1, linestyle="--")
        if label in stated:
            before = stated[label]
            axes.plot(
                before["probability"], before["frequency"], "o-", color="#b9b9b9", markersize=3, label="as fitted"
            )
        spread = [table["frequency"] - table["lower"], table["upper"] - table["frequency"]]
        axes.errorbar(
            table["probability"],
            table["frequency"],
            yerr=np.maximum(spread, 0.0),
            fmt="o-",
            color=CYCLE[0],
            markersize=4.5,
            linewidth=1.2,
            elinewidth=1.2,
            label="recalibrated",
        )
        axes.set_xlim(0, 1)
        axes.set_ylim(0, 1)
        axes.set_aspect("equal")
        axes.text(0.97, 0.04, notes.get(label, ""), transform=axes.transAxes, ha="right", fontsize=7.5, color=INK)
        if first:
            legend(axes, loc="upper left")
    return figure


def predicted_against_measured(held_out: Mapping[str, pd.DataFrame], notes: Mapping[str, str], seed: int = 0) -> Figure:
    """Held-out prediction with its 90 % interval against the measurement, one panel per continuous trait.

    Args:
        held_out: Label of the trait to ``target``, ``mean``, ``sd``.
        notes: Label to a line of text for the panel.
        seed: Seed of the 150 synapses that are drawn where there are more.

    Returns:
        A figure; intervals that hold the measurement are blue, those that miss it orange.
    """
    if not held_out:
        return _empty("no continuous trait could be imputed")
    figure = new_figure(2.9 * max(2, len(held_out)), 3.6)
    for axes, (label, table) in zip(_panels(figure, len(held_out)), held_out.items(), strict=True):
        first = axes is figure.axes[0]
        style_axes(axes, label, "measured (z-score of the logarithm)", "predicted, held out" if first else "")
        shown = table.sample(min(len(table), _MAX_POINTS), random_state=seed)
        measured, mean, half = shown["target"], shown["mean"], _HALF_90 * shown["sd"]
        is_covered = (measured - mean).abs() <= half
        limits = [float(min(measured.min(), (mean - half).min())), float(max(measured.max(), (mean + half).max()))]
        axes.plot(limits, limits, color=MUTED, linewidth=1, linestyle="--")
        for chosen, colour, name in ((is_covered, CYCLE[0], "90 % interval"), (~is_covered, CYCLE[1], "missed")):
            x, y, spread = measured[chosen], mean[chosen], half[chosen]
            axes.vlines(x, y - spread, y + spread, color=colour, linewidth=0.6, alpha=0.25)
            axes.plot(x, y, "o", color=colour, markersize=2.5, alpha=0.8, label=name)
        axes.set_title(f"{label}\n{notes.get(label, '')}", loc="left", fontsize=8, color=INK)
        if first:
            legend(axes, loc="upper left")
    return figure


def _panels(figure: Figure, n_panels: int) -> Sequence[Axes]:
    return [figure.add_subplot(1, max(2, n_panels), number + 1) for number in range(n_panels)]


def _empty(text: str) -> Figure:
    figure = new_figure(5.0, 2.0)
    axes = figure.add_subplot()
    axes.set_axis_off()
    note(axes, text)
    return figure
