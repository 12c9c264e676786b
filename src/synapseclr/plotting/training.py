"""Curves of a training: losses, learning rate, and the quality of the representation by epoch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import pandas as pd

from synapseclr.analysis.column_labels import column_label
from synapseclr.analysis.traits import TRAITS, Trait
from synapseclr.plotting.theme import CYCLE, MUTED, SMALL_PT, legend, new_figure, note, plotly_layout, style_axes

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from plotly.graph_objects import Figure as PlotlyFigure

_LOSSES = {"train_loss": "training", "validation_loss": "validation"}
_QUALITIES = {"alignment": "alignment", "uniformity": "uniformity"}
_PROBE_PREFIX = "knn_"


def _probes(history: pd.DataFrame, traits: Sequence[Trait]) -> dict[str, str]:
    """k-NN probe columns that hold a value, with their labels."""
    columns = [str(name) for name in history.columns]
    names = [name for name in columns if name.startswith(_PROBE_PREFIX) and history[name].notna().any()]
    return {name: column_label(name.removeprefix(_PROBE_PREFIX), traits).name for name in names}


def _measured(history: pd.DataFrame, column: str) -> pd.DataFrame:
    """``epoch`` and a column, at the epochs that have a value: probes are not taken at every one."""
    return history[["epoch", column]].dropna()


def training_curve(history: pd.DataFrame, traits: Sequence[Trait] = TRAITS) -> PlotlyFigure:
    """Interactive curves of a training.

    Args:
        history: One row per epoch: ``epoch``, ``train_loss``, ``validation_loss``, ``learning_rate`` and, where
            recorded, ``alignment``, ``uniformity``, ``effective_rank`` and ``knn_<trait>``.
        traits: Traits of the probes, for their names.

    Returns:
        A plotly figure: losses with the learning rate on a second axis; below, the k-NN probes; below, alignment and
        uniformity with the effective rank on a second axis.
    """
    from plotly.subplots import make_subplots

    titles = ["Loss and learning rate", "k-NN probe on annotated synapses", "Alignment, uniformity, effective rank"]
    specs = [[{"secondary_y": True}], [{"secondary_y": False}], [{"secondary_y": True}]]
    figure = make_subplots(rows=3, cols=1, shared_xaxes=True, vertical_spacing=0.09, subplot_titles=titles, specs=specs)
    rows: list[tuple[int, dict[str, str], bool]] = [
        (1, _LOSSES, False),
        (1, {"learning_rate": "learning rate"}, True),
        (2, _probes(history, traits), False),
        (3, _QUALITIES, False),
        (3, {"effective_rank": "effective rank"}, True),
    ]
    for row, columns, secondary in rows:
        _add_lines(figure, history, columns, row, secondary)
    figure.update_layout(**plotly_layout(780))
    for row, top in enumerate((1.0, 0.63, 0.27), start=1):
        figure.update_layout({_legend_of(row): {"x": 1.09, "y": top, "yanchor": "top"}})
    figure.update_xaxes(title="epoch", row=3, col=1)
    figure.update_yaxes(title="loss", row=1, col=1, secondary_y=False)
    right = {"secondary_y": True, "showgrid": False, "tickmode": "auto", "nticks": 6, "exponentformat": "e"}
    figure.update_yaxes(title="learning rate", row=1, col=1, **right)
    figure.update_yaxes(title="score", row=2, col=1)
    figure.update_yaxes(title="alignment, uniformity", row=3, col=1, secondary_y=False)
    figure.update_yaxes(title="effective rank", row=3, col=1, **right)
    return figure


def _legend_of(row: int) -> str:
    """Plotly's name for the legend beside a row of the figure."""
    return "legend" if row == 1 else f"legend{row}"


def _add_lines(figure: PlotlyFigure, history: pd.DataFrame, columns: dict[str, str], row: int, secondary: bool) -> None:
    import plotly.graph_objects as go

    for index, (column, label) in enumerate(columns.items()):
        if column not in history:
            continue
        measured = _measured(history, column)
        colour = MUTED if secondary else CYCLE[index % len(CYCLE)]
        line = {"color": colour, "width": 1.5 if secondary else 2, "dash": "dot" if secondary else "solid"}
        figure.add_trace(
            go.Scatter(
                x=measured["epoch"].tolist(),
                y=measured[column].tolist(),
                name=label,
                mode="lines" if len(measured) > 1 else "markers",
                line=line,
                legend=_legend_of(row),
            ),
            row=row,
            col=1,
            secondary_y=secondary if row != 2 else None,
        )


def training_figure(history: pd.DataFrame, traits: Sequence[Trait] = TRAITS) -> Figure:
    """The same curves for paper.

    Args:
        history: As for :func:`training_curve`.
        traits: Traits of the probes, for their names.

    Returns:
        A figure with three panels: losses (learning rate on a second axis), k-NN probes, effective rank.
    """
    figure = new_figure(10.2, 2.9)
    losses, probes, ranks = figure.subplots(1, 3)
    marker = "o" if len(history) == 1 else ""
    for index, (column, label) in enumerate(_LOSSES.items()):
        if column in history:
            losses.plot(history["epoch"], history[column], color=CYCLE[index], label=label, marker=marker)
    style_axes(losses, "Loss", "epoch", "loss", grid="y")
    if "learning_rate" in history:
        rates = losses.twinx()
        rates.plot(history["epoch"], history["learning_rate"], color=MUTED, linewidth=1, linestyle=":")
        style_axes(rates, y_label="learning rate (dotted)")
        rates.ticklabel_format(axis="y", style="sci", scilimits=(0, 0))
        rates.yaxis.get_offset_text().set_fontsize(SMALL_PT)
        rates.spines["right"].set_visible(True)
    legend(losses)

    for index, (column, label) in enumerate(_probes(history, traits).items()):
        measured = _measured(history, column)
        colour = CYCLE[index % len(CYCLE)]
        probes.plot(measured["epoch"], measured[column], color=colour, label=label, marker="o", markersize=3)
    style_axes(probes, "k-NN probe on annotated synapses", "epoch", "score", grid="y")
    if _probes(history, traits):
        legend(probes)
    else:
        note(probes, "no synapse is annotated")

    style_axes(ranks, "Effective rank (RankMe)", "epoch", "dimensions", grid="y")
    if "effective_rank" in history:
        ranks.plot(history["epoch"], history["effective_rank"], color=CYCLE[2], marker=marker)
    else:
        note(ranks, "not recorded")
    return figure
