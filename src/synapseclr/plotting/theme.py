"""One look for all figures: few lines, readable type, colours that the colour-blind can tell apart."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from synapseclr.analysis.representations import is_simulated

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK = "#222222"
MUTED = "#6b6b6b"
GRID = "#e4e4e4"
UNKNOWN = "#d2d2d2"
"""Grey of synapses that are not annotated."""

CYCLE = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#8c7a00", "#000000")
"""Categorical colours. Source: Okabe & Ito 2008, https://jfly.uni-koeln.de/color/ (yellow darkened for white paper)."""

CLASS_COLOURS = ("#0072b2", "#d55e00")
"""Colours of the classes 0 and 1: excitatory blue, inhibitory vermilion."""

_MANY_COLOURS = (
    *("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8c7a00", "#6a3d9a", "#b15928", "#1b1b1b"),
    *("#66c2a5", "#e7298a", "#a6761d", "#7570b3", "#b2df8a", "#fb9a99", "#4d4d4d", "#00b7c7", "#a50026", "#c7b400"),
)
"""Colours of up to twenty classes: those of the cycle first, then darker and lighter ones that differ from them."""

SEQUENTIAL = "viridis"
SMALL_PT = 8.0
"""The smallest type, in points: 12 pixels in the report."""

WIDEST_IN = 10.2
"""The widest figure, in inches: the column of the report on a screen of 1,440 pixels."""

SYNAPSES = "Synapses"
"""Text chunk of a PNG file that says where its synapses are."""

MASK_COLOURS: dict[int, tuple[int, int, int]] = {1: (138, 43, 226), 2: (255, 128, 0), 3: (52, 235, 128)}
"""RGB per mask code, as published: presynaptic violet, cleft orange, postsynaptic green."""

MASK_NAMES = {1: "presynaptic", 2: "cleft", 3: "postsynaptic"}
_REPRESENTATION_COLOURS = {
    "synapseclr": "#0072b2",
    "random": "#8f8f8f",
    "random_convolution": "#c4c4c4",
    "trivial_statistics": "#e69f00",
    "mask_statistics": "#b07000",
    "synapseclr+statistics": "#009e73",
}
REPRESENTATION_LABELS = {
    "synapseclr": "SynapseCLR",
    "random": "untrained encoder",
    "random_convolution": "one untrained convolution",
    "trivial_statistics": "image statistics",
    "mask_statistics": "mask statistics",
    "synapseclr+statistics": "SynapseCLR and mask statistics",
    "synapseclr_and_masks": "SynapseCLR and masks",
    "synapseclr_and_statistics": "SynapseCLR and statistics",
}
_SIMULATED_LABELS = {
    "synapseclr": "simulated features",
    "random": "simulated untrained features",
    "random_convolution": "simulated untrained convolution",
    "synapseclr+statistics": "simulated features and mask statistics",
    "synapseclr_and_masks": "simulated features and masks",
    "synapseclr_and_statistics": "simulated features and statistics",
}
LAYER_LABELS = {"encoder.fc": "backbone", "projector.mlp.0": "projector, middle", "projector.mlp.3": "projector, end"}
MAIN_LAYERS = ("encoder.fc", "statistics")
"""Layers that stand for a representation: the backbone, or the statistics of one without layers."""

METRIC_LABELS = {
    "roc_auc": "ROC AUC",
    "macro_auc": "mean ROC AUC of classes",
    "explained_variance": "explained variance",
}
CHANCE = {"roc_auc": 0.5, "macro_auc": 0.5, "explained_variance": 0.0}
"""Score of a guess, by metric."""


def class_colours(n_classes: int) -> tuple[str, ...]:
    """Colours of the classes 0, 1, ...; beyond twenty they repeat."""
    if n_classes <= len(CLASS_COLOURS):
        return CLASS_COLOURS
    return tuple(_MANY_COLOURS[number % len(_MANY_COLOURS)] for number in range(n_classes))


def representation_labels(provenance: Mapping[str, Any] | None = None) -> Mapping[str, str]:
    """Names of representations for people, by their names in tables; simulated features are not called an encoder's.

    Args:
        provenance: Of the embeddings: ``uns["provenance"]``.
    """
    return REPRESENTATION_LABELS | (_SIMULATED_LABELS if is_simulated(provenance) else {})


def representation_style(
    names: list[str], labels: Mapping[str, str] = REPRESENTATION_LABELS
) -> dict[str, tuple[str, str]]:
    """Label and colour of each representation; those without a fixed colour take the next free one of the cycle.

    Args:
        names: Representation names in order of appearance.
        labels: From :func:`representation_labels`.

    Returns:
        Name to (label, colour).
    """
    free = [colour for colour in CYCLE if colour not in _REPRESENTATION_COLOURS.values()]
    others = [name for name in names if name not in _REPRESENTATION_COLOURS]
    colours = _REPRESENTATION_COLOURS | {name: free[index % len(free)] for index, name in enumerate(others)}
    return {name: (labels.get(name, name), colours[name]) for name in names}


def new_figure(width_in: float, height_in: float) -> Figure:
    """Make an empty figure that needs no display and no pyplot state.

    Args:
        width_in: Width in inches.
        height_in: Height in inches.
    """
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    layout = ConstrainedLayoutEngine(w_pad=0.08, h_pad=0.08)
    return Figure(figsize=(width_in, height_in), dpi=120, layout=layout, facecolor="white")


def panel_grid(
    n_panels: int,
    columns: int,
    panel_in: tuple[float, float],
    right_in: float = 0.06,
    above_in: float = 0.25,
    below_in: float = 0.06,
    foot_in: float = 0.1,
) -> tuple[Figure, list[Axes]]:
    """Make a figure of equal panels at fixed places.

    Panels stay aligned whatever stands beside them, and many panels cost no layout computation.

    Args:
        n_panels: Panels wanted, filled row by row.
        columns: Panels per row, at most.
        panel_in: Width and height of a panel, in inches.
        right_in: Space to the right of each panel.
        above_in: Space above each panel, for its title.
        below_in: Space below each panel.
        foot_in: Space at the bottom of the figure, for a legend.

    Returns:
        The figure and its n panels.
    """
    from matplotlib.figure import Figure

    columns = min(columns, n_panels)
    rows = -(-n_panels // columns)
    left_in = 0.1
    cell_in = (panel_in[0] + right_in, panel_in[1] + above_in + below_in)
    size_in = (left_in + columns * cell_in[0], foot_in + rows * cell_in[1])
    figure = Figure(figsize=size_in, dpi=120, facecolor="white")
    panels = []
    for index in range(n_panels):
        row, column = divmod(index, columns)
        x_in = left_in + column * cell_in[0]
        y_in = foot_in + (rows - 1 - row) * cell_in[1] + below_in
        place = (x_in / size_in[0], y_in / size_in[1], panel_in[0] / size_in[0], panel_in[1] / size_in[1])
        panels.append(figure.add_axes(place))
    return figure, panels


def fitting_panel_in(side_in: float, columns: int, width_in: float = WIDEST_IN) -> float:
    """Side of the panels of :func:`panel_grid`, in inches: the one asked for, or what fits into the width."""
    return min(side_in, (width_in - 0.1) / columns - 0.06)


def subplot_grid(
    n_panels: int,
    columns: int,
    panel_in: tuple[float, float],
    margin_in: tuple[float, float],
    sharex: bool = False,
) -> tuple[Figure, list[Axes]]:
    """Make a figure of panels whose labels find their own space; places that are left over stay empty.

    Args:
        n_panels: Panels wanted, at least one, filled row by row.
        columns: Panels per row, at most.
        panel_in: Width and height of a panel with its labels, in inches.
        margin_in: Width and height of the figure beyond its panels, in inches.
        sharex: Whether all panels have the same abscissa.

    Returns:
        The figure and its n panels.
    """
    import numpy as np

    columns = min(columns, n_panels)
    rows = -(-n_panels // columns)
    figure = new_figure(margin_in[0] + panel_in[0] * columns, margin_in[1] + panel_in[1] * rows)
    grid = list(np.atleast_1d(figure.subplots(rows, columns, sharex=sharex)).ravel())
    for axes in grid[n_panels:]:
        axes.set_axis_off()
    return figure, grid[:n_panels]


def empty_figure(text: str, width_in: float = 5.0, height_in: float = 1.5) -> Figure:
    """Make a figure that says why there is nothing to draw."""
    figure = new_figure(width_in, height_in)
    axes = figure.add_subplot()
    axes.set_axis_off()
    note(axes, text)
    return figure


def style_axes(axes: Axes, title: str = "", x_label: str = "", y_label: str = "", grid: str = "") -> None:
    """Put the common look on data axes.

    Args:
        axes: What to style.
        title: Left-aligned heading.
        x_label: Label of the abscissa, with its unit.
        y_label: Label of the ordinate, with its unit.
        grid: ``x``, ``y``, ``both`` or nothing.
    """
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(MUTED)
    axes.tick_params(colors=INK, labelsize=SMALL_PT, length=3, color=MUTED)
    axes.set_title(title, loc="left", fontsize=9.5, color=INK)
    axes.set_xlabel(x_label, fontsize=8.5, color=INK)
    axes.set_ylabel(y_label, fontsize=8.5, color=INK)
    axes.set_axisbelow(True)
    if grid:
        axes.grid(True, axis=grid, color=GRID, linewidth=0.7)  # type: ignore[arg-type]


def style_image(axes: Axes, title: str = "") -> None:
    """Put the common look on axes that show an image or an embedding: a frame, no ticks."""
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_color(UNKNOWN)
    axes.spines[:].set_linewidth(0.7)
    axes.set_title(title, loc="left", fontsize=SMALL_PT, color=INK)


def legend(axes: Axes, **options: Any) -> None:
    """Draw a legend without a frame."""
    axes.legend(**{"frameon": False, "fontsize": SMALL_PT, "labelcolor": INK, **options})


def note(axes: Axes, text: str) -> None:
    """Say in the middle of empty axes why they are empty."""
    axes.text(0.5, 0.5, text, transform=axes.transAxes, ha="center", va="center", fontsize=8.5, color=MUTED, wrap=True)


def figure_png(figure: Figure, dpi: int = 120) -> bytes:
    """Render a figure to a PNG in memory.

    Args:
        figure: What to render.
        dpi: Dots per inch.

    Returns:
        The PNG file's bytes.
    """
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi, metadata=synapse_boxes(figure))
    return buffer.getvalue()


def mark_synapse(axes: Axes, synapse_id: object) -> None:
    """Note on axes that they show a synapse; an id that is not a number, such as a file's name, is not noted."""
    if str(synapse_id).isdecimal():
        axes.set_gid(f"{SYNAPSES} {synapse_id}")


def synapse_boxes(figure: Figure) -> dict[str, str]:
    """Metadata for a PNG file of a figure: where the marked synapses are (:func:`mark_synapse`).

    Args:
        figure: What will be saved as a whole (not with ``bbox_inches="tight"``).

    Returns:
        ``Synapses``: JSON, a list of [id, left, top, width, height], lengths as shares of the figure; empty without
        a synapse.
    """
    marked = [axes for axes in figure.axes if (axes.get_gid() or "").startswith(SYNAPSES)]
    if not marked:
        return {}
    if figure.get_layout_engine() is not None:
        figure.draw_without_rendering()  # the places are not known before
    boxes = []
    for axes in marked:
        left, bottom, width, height = axes.get_position().bounds
        shares = (left, 1 - bottom - height, width, height)
        boxes.append([str(axes.get_gid()).split()[1], *(round(share, 4) for share in shares)])
    return {SYNAPSES: json.dumps(boxes)}


def plotly_layout(height: int) -> dict[str, Any]:
    """Layout options that give a plotly figure the common look.

    Args:
        height: Height in pixels.
    """
    return {
        "template": "plotly_white",
        "height": height,
        "font": {"family": "Helvetica, Arial, sans-serif", "size": 12, "color": INK},
        "colorway": list(CYCLE),
        "margin": {"l": 60, "r": 20, "t": 50, "b": 50},
        "hoverlabel": {"font": {"size": 12}},
    }
