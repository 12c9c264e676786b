"""Traits: scores of representations, imputed values, learning curves, cell types of neurites, summaries."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from synapseclr.analysis.column_labels import ColumnLabel, mean_label
from synapseclr.analysis.traits import TRAITS, Trait
from synapseclr.plotting.theme import (
    CHANCE,
    CYCLE,
    INK,
    LAYER_LABELS,
    MAIN_LAYERS,
    METRIC_LABELS,
    MUTED,
    REPRESENTATION_LABELS,
    SMALL_PT,
    WIDEST_IN,
    empty_figure,
    legend,
    new_figure,
    note,
    representation_style,
    style_axes,
    subplot_grid,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


_LAYER_MARKERS = {"encoder.fc": "o", "statistics": "o", "projector.mlp.0": "^", "projector.mlp.3": "s"}
HALF_WIDTH_90 = 1.6448536269514722
"""Half of a 90 % interval of the normal distribution, in standard deviations."""

_PANELS: tuple[tuple[str, ...], ...] = (("roc_auc", "macro_auc"), ("explained_variance",))
"""Metrics that share a panel: those of classes, that of numbers."""

_MAX_POINTS = 150
_MARKERS = ("o", "s", "^", "D", "v")
_METHOD_COLOURS = {"corrected": CYCLE[0], "independent": CYCLE[1]}
METHOD_LABELS = {"corrected": "shared errors accounted for", "independent": "as if independent"}
_SOURCES = {"measured": ("o", CYCLE[0]), "imputed": ("s", CYCLE[1])}
_PANELS_PER_ROW = 4


def score_comparison(
    summary: pd.DataFrame,
    trait_labels: Mapping[str, str],
    probe: str = "linear",
    names: Mapping[str, str] = REPRESENTATION_LABELS,
) -> Figure:
    """Dots with their spread over folds, per trait and representation.

    Args:
        summary: ``representation``, ``layer``, ``trait``, ``probe``, ``metric``, ``mean``, ``std``, as
            :func:`synapseclr.analysis.imputation.evaluation_document.summarise_scores` returns it.
        trait_labels: Trait name to its name for people; the order of the traits is taken from here.
        probe: Probe to show.
        names: Names of the representations for people.

    Returns:
        A figure with one panel for classes (ROC AUC) and one for continuous traits (explained variance). Filled dots
        are backbones, with one standard deviation over folds; small open marks are projector layers. A dashed line is
        chance.
    """
    shown = summary[summary["probe"] == probe]
    style = representation_style(list(dict.fromkeys(shown["representation"])), names)
    traits = {
        metrics: [name for name in trait_labels if name in set(shown.loc[shown["metric"].isin(metrics), "trait"])]
        for metrics in _PANELS
    }
    n_rows = max(2, *(len(names) for names in traits.values()))
    figure = new_figure(10.2, 1.3 + 0.5 * n_rows)
    for axes, metrics in zip(figure.subplots(1, 2), _PANELS, strict=True):
        of_panel = shown[shown["metric"].isin(metrics)]
        style_axes(axes, _panel_label(metrics, of_panel), "mean ± standard deviation over folds", grid="x")
        axes.axvline(CHANCE[metrics[0]], color=MUTED, linewidth=1, linestyle="--")
        if not traits[metrics]:
            axes.set_yticks([])
            note(axes, "no trait could be scored")
            continue
        _draw_scores(axes, of_panel, traits[metrics], style)
        axes.set_yticks(range(len(traits[metrics])), [trait_labels[name] for name in traits[metrics]])
        axes.set_ylim(len(traits[metrics]) - 0.5, -0.5)
    _draw_representation_legend(figure, shown, style)
    return figure


def _panel_label(metrics: Sequence[str], scores: pd.DataFrame) -> str:
    """Name of the metric; that of several classes is named beside it where there is one."""
    label = METRIC_LABELS[metrics[0]]
    return f"{label} (several classes: their mean)" if "macro_auc" in set(scores["metric"]) else label


def _draw_scores(axes: Axes, scores: pd.DataFrame, traits: list[str], style: Mapping[str, tuple[str, str]]) -> None:
    spacing = 0.56 / max(1, len(style) - 1)
    for index, (name, (_, colour)) in enumerate(style.items()):
        offset = (index - (len(style) - 1) / 2) * spacing
        of_one = scores[scores["representation"] == name]
        for layer, rows in of_one.groupby("layer", sort=False):
            heights = [traits.index(trait) + offset for trait in rows["trait"]]
            marker = _LAYER_MARKERS.get(str(layer), "D")
            if layer in MAIN_LAYERS:
                axes.errorbar(
                    rows["mean"], heights, xerr=rows["std"], fmt=marker, color=colour, markersize=6, elinewidth=1.4
                )
            else:
                axes.plot(rows["mean"], heights, marker, markersize=4, color=colour, fillstyle="none", alpha=0.8)
    for height in range(1, len(traits)):
        axes.axhline(height - 0.5, color="#f0f0f0", linewidth=0.8, zorder=0)


def _draw_representation_legend(figure: Figure, shown: pd.DataFrame, style: Mapping[str, tuple[str, str]]) -> None:
    from matplotlib.lines import Line2D

    handles = [Line2D([], [], marker="o", linestyle="", color=colour, label=label) for label, colour in style.values()]
    handles += [
        Line2D([], [], marker=_LAYER_MARKERS[layer], linestyle="", color=MUTED, fillstyle="none", label=label)
        for layer, label in LAYER_LABELS.items()
        if layer not in MAIN_LAYERS and layer in set(shown["layer"])
    ]
    if handles:
        n_columns = min(4, len(handles))
        figure.legend(handles=handles, loc="outside lower center", ncols=n_columns, frameon=False, fontsize=SMALL_PT)


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
        return empty_figure("no class trait could be imputed")
    figure, panels = _rows_of_panels(len(given_out), 3.0)
    for axes, (label, table) in zip(panels, given_out.items(), strict=True):
        style_axes(axes, label, "stated probability", "observed frequency" if _is_first(axes) else "", grid="both")
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
        axes.text(0.97, 0.04, notes.get(label, ""), transform=axes.transAxes, ha="right", fontsize=SMALL_PT, color=INK)
        if axes is panels[0]:
            legend(axes, loc="upper left")
    return figure


def predicted_against_measured(
    held_out: Mapping[str, pd.DataFrame],
    notes: Mapping[str, str],
    seed: int = 0,
    units: Mapping[str, str] | None = None,
) -> Figure:
    """Held-out prediction with its 90 % interval against the measurement, one panel per continuous trait.

    Args:
        held_out: Label of the trait to ``target``, ``mean``, ``sd``.
        notes: Label to a line of text for the panel.
        seed: Seed of the 150 synapses that are drawn where there are more.
        units: Label to the unit of its values.

    Returns:
        A figure; intervals that hold the measurement are blue, those that miss it orange.
    """
    if not held_out:
        return empty_figure("no continuous trait could be imputed")
    figure, panels = _rows_of_panels(len(held_out), 3.4)
    for axes, (label, table) in zip(panels, held_out.items(), strict=True):
        measured_label = str(ColumnLabel("measured", (units or {}).get(label, "")))
        style_axes(axes, label, measured_label, "predicted, held out" if _is_first(axes) else "")
        shown = table.sample(min(len(table), _MAX_POINTS), random_state=seed)
        measured, mean, half = shown["target"], shown["mean"], HALF_WIDTH_90 * shown["sd"]
        is_covered = (measured - mean).abs() <= half
        limits = [float(min(measured.min(), (mean - half).min())), float(max(measured.max(), (mean + half).max()))]
        axes.plot(limits, limits, color=MUTED, linewidth=1, linestyle="--")
        for chosen, colour, name in ((is_covered, CYCLE[0], "90 % interval"), (~is_covered, CYCLE[1], "missed")):
            x, y, spread = measured[chosen], mean[chosen], half[chosen]
            axes.vlines(x, y - spread, y + spread, color=colour, linewidth=0.6, alpha=0.25)
            axes.plot(x, y, "o", color=colour, markersize=2.5, alpha=0.8, label=name)
        axes.set_title(f"{label}\n{notes.get(label, '')}", loc="left", fontsize=SMALL_PT, color=INK)
        if axes is panels[0]:
            legend(axes, loc="upper left")
    return figure


_MOST_NUMBERED = 12
"""Classes up to which the cells of a confusion matrix hold their numbers."""


def confusion_panels(confusions: pd.DataFrame, labels: Mapping[str, str]) -> Figure:
    """Draw the share of each true class that is taken for each class, one panel per trait.

    Args:
        confusions: ``trait, true_class, predicted_class, n, share``, as
            :func:`synapseclr.analysis.confusions.class_confusions` returns it.
        labels: Trait to its name for people; those without a name go by their own.

    Returns:
        A figure; rows are true classes, with their number of synapses or neurites.
    """
    traits = list(dict.fromkeys(confusions["trait"]))
    if not traits:
        return empty_figure("no trait of several classes could be imputed")
    tables = [confusions[confusions["trait"] == trait] for trait in traits]
    sizes = [table["true_class"].nunique() for table in tables]
    extent_in = [1.6 + min(0.42, 4.2 / size + 0.09) * size for size in sizes]
    if sum(extent_in) + 0.6 <= WIDEST_IN:
        figure = new_figure(sum(extent_in) + 0.6, max(extent_in))
        panels = np.atleast_1d(figure.subplots(1, len(traits), width_ratios=extent_in))
    else:
        figure = new_figure(max(extent_in) + 0.6, sum(extent_in))
        panels = np.atleast_1d(figure.subplots(len(traits), 1, height_ratios=extent_in))
    for axes, trait, table in zip(panels, traits, tables, strict=True):
        names = list(dict.fromkeys(table["true_class"]))
        share_tp = table.pivot_table(index="true_class", columns="predicted_class", values="share").loc[names, names]
        n_t = table.groupby("true_class")["n"].sum().loc[names]
        image = axes.imshow(share_tp.to_numpy(), cmap="Blues", vmin=0, vmax=1, aspect="equal")
        style_axes(axes, labels.get(trait, trait), "predicted", "", grid="")
        axes.set_xticks(range(len(names)), names, rotation=90, fontsize=SMALL_PT)
        axes.set_yticks(
            range(len(names)), [f"{name} ({n})" for name, n in zip(names, n_t, strict=True)], fontsize=SMALL_PT
        )
        if len(names) <= _MOST_NUMBERED:
            for (row, column), share in np.ndenumerate(share_tp.to_numpy()):
                if share >= 0.005:
                    colour = "white" if share > 0.55 else INK
                    axes.text(column, row, f"{share:.2f}", ha="center", va="center", fontsize=SMALL_PT, color=colour)
        bar = figure.colorbar(image, ax=axes, fraction=0.04, pad=0.02)
        bar.outline.set_visible(False)
        bar.ax.tick_params(labelsize=SMALL_PT, length=2)
    return figure


def _rows_of_panels(n_panels: int, height_in: float) -> tuple[Figure, list[Axes]]:
    """A figure of one row of up to four panels, or of rows of three."""
    columns = max(2, n_panels) if n_panels <= _PANELS_PER_ROW else 3
    rows = -(-n_panels // columns)
    figure = new_figure(min(3.2, WIDEST_IN / columns) * columns, height_in * rows)
    return figure, [figure.add_subplot(rows, columns, number + 1) for number in range(n_panels)]


def _is_first(axes: Axes) -> bool:
    """True for the first panel of a row."""
    place = axes.get_subplotspec()
    return place is None or place.is_first_col()


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
    figure = new_figure(9.8, 4.8)
    for axes, metrics in zip(figure.subplots(1, 2), _PANELS, strict=True):
        chance = CHANCE[metrics[0]]
        shown = summary[summary["metric"].isin(metrics)]
        style_axes(axes, _panel_label(metrics, shown), "labelled synapses in training", "", grid="both")
        axes.axhline(chance, color=MUTED, linewidth=1, linestyle="--")
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
        legend(axes, loc="upper center", bbox_to_anchor=(0.5, -0.14), ncols=2)
    return figure


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
            color=_METHOD_COLOURS[method],
            markersize=4.5,
            linewidth=1.2,
            label=METHOD_LABELS[method],
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
    if not strata:
        return empty_figure("no fraction of labels was enough to type neurites")
    figure = new_figure(2.4 * max(2, len(strata)) + 0.6, 3.4)
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
            handles, labels = axes.get_legend_handles_labels()
            figure.legend(handles, labels, loc="outside lower center", ncols=2, frameon=False, fontsize=SMALL_PT)
    return figure


def trait_summary_panels(summaries: pd.DataFrame, traits: Sequence[Trait] = TRAITS) -> Figure:
    """Mean of every trait per combination of cell types, measured beside imputed.

    Args:
        summaries: As :func:`synapseclr.analysis.features.trait_summaries` returns it.
        traits: Declared traits, for classes and units.

    Returns:
        A figure with one panel per trait; bars are 90 % intervals.
    """
    names = list(dict.fromkeys(summaries["trait"]))
    figure, grid = _grid(len(names), (2.35, 2.3))
    combinations = list(dict.fromkeys(summaries["combination"]))
    for position, (axes, name) in enumerate(zip(grid, names, strict=False)):
        of_trait = summaries[summaries["trait"] == name]
        style_axes(axes, str(of_trait["label"].iloc[0]), mean_label(name, traits), grid="x")
        axes.title.set_fontsize(8.5)
        for offset, (source, (marker, colour)) in zip((-0.14, 0.14), _SOURCES.items(), strict=True):
            rows = of_trait[of_trait["source"] == source]
            heights = [combinations.index(types) + offset for types in rows["combination"]]
            spread = [rows["mean"] - rows["lower_90"], rows["upper_90"] - rows["mean"]]
            axes.errorbar(
                rows["mean"], heights, xerr=np.maximum(spread, 0), fmt=marker, color=colour, markersize=4, label=source
            )
        axes.set_yticks(range(len(combinations)), combinations if position % _PANELS_PER_ROW == 0 else [])
        axes.set_ylim(len(combinations) - 0.5, -0.5)
        if position == 0:
            handles, labels = axes.get_legend_handles_labels()
            figure.legend(handles, labels, loc="outside lower center", ncols=2, frameon=False, fontsize=SMALL_PT)
    return figure


def posterior_panels(posteriors: Mapping[str, pd.DataFrame], axis_labels: Mapping[str, str]) -> Figure:
    """Draw the posterior mean of each synapse with its 90 % interval, synapses in order of the mean.

    Args:
        posteriors: Label of the trait to ``mean``, ``lower_90``, ``upper_90``, ``measured`` (NaN where not annotated).
        axis_labels: Label of the trait to that of the ordinate.

    Returns:
        A figure with one panel per trait; dots are measurements, and for classes ticks at 0 and 1.
    """
    figure, grid = _grid(len(posteriors), (2.35, 2.2))
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
            figure.legend(handles, labels, loc="outside lower center", ncols=3, frameon=False, fontsize=SMALL_PT)
    return figure


def _grid(n_panels: int, panel_in: tuple[float, float]) -> tuple[Figure, list[Axes]]:
    """Figure with panels in rows of four; one that says so if there is nothing to show."""
    if not n_panels:
        return empty_figure("no trait is annotated or imputed"), []
    return subplot_grid(n_panels, _PANELS_PER_ROW, panel_in, (0.8, 0.5))
