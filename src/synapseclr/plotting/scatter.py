"""Synapses in the plane, coloured by what is known of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from synapseclr.plotting.theme import (
    CLASS_COLOURS,
    MUTED,
    SEQUENTIAL,
    UNKNOWN,
    legend,
    note,
    panel_grid,
    plotly_layout,
    style_image,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from plotly.graph_objects import Figure as PlotlyFigure


@dataclass(frozen=True)
class Overlay:
    """Values to colour synapses by.

    Attributes:
        label: What they are.
        values_n: float (n,); NaN is drawn grey.
        class_names: Names of the values 0 and 1; empty for continuous values.
        colour_map: Colours of continuous values, by matplotlib's name.
        limits: Values at the ends of the colours; None: percentiles 2 and 98.
    """

    label: str
    values_n: np.ndarray
    class_names: tuple[str, ...] = ()
    colour_map: str = SEQUENTIAL
    limits: tuple[float, float] | None = None

    def ends(self, values_m: np.ndarray) -> tuple[float, float]:
        """Values at the two ends of the colours."""
        if self.limits is not None:
            return self.limits
        low, high = np.percentile(values_m, [2, 98]) if len(values_m) else (0.0, 1.0)
        return float(low), float(high)


def marker_area(n_points: int) -> float:
    """Marker area in square points at which n points neither vanish nor merge."""
    return float(np.clip(9000.0 / max(n_points, 1), 0.6, 26.0))


def scatter_panels(
    coordinates_n2: np.ndarray, overlays: Sequence[Overlay], columns: int = 3, axis_name: str = "UMAP"
) -> Figure:
    """Small multiples of the plane, one per overlay.

    Args:
        coordinates_n2: float (n, 2).
        overlays: What to colour by, at least one.
        columns: Panels per row.
        axis_name: Name of the axes, such as ``UMAP``.

    Returns:
        A figure with one panel per overlay. Synapses without a value lie grey underneath.
    """
    figure, grid = panel_grid(len(overlays), columns, (2.7, 2.7), right_in=0.55, below_in=0.28)
    for axes, overlay in zip(grid, overlays, strict=True):
        draw_panel(axes, coordinates_n2, overlay)
        for place, rotation, number in (((0.02, 0.02), 0, 1), ((0.02, 0.13), 90, 2)):
            label = f"{axis_name} {number}"
            axes.text(*place, label, transform=axes.transAxes, fontsize=6, color=MUTED, rotation=rotation, va="bottom")
    return figure


def draw_panel(axes: Axes, coordinates_n2: np.ndarray, overlay: Overlay) -> None:
    """Draw the plane into existing axes, coloured by one overlay: float (n, 2), synapses without a value in grey."""
    is_known = np.isfinite(overlay.values_n)
    area = marker_area(len(coordinates_n2))
    unknown_m2 = coordinates_n2[~is_known]
    axes.scatter(unknown_m2[:, 0], unknown_m2[:, 1], s=0.6 * area, color=UNKNOWN, linewidths=0, rasterized=True)
    known_m2, values_m = coordinates_n2[is_known], overlay.values_n[is_known]
    style_image(axes, f"{overlay.label} ({is_known.sum():,} of {len(is_known):,})")
    axes.margins(0.04)
    if not is_known.any():
        note(axes, "not annotated")
    elif overlay.class_names:
        colours = np.array(CLASS_COLOURS)[values_m.astype(int)]
        # One call in the given order, so that neither class lies on top of the other.
        axes.scatter(known_m2[:, 0], known_m2[:, 1], s=area, c=colours, linewidths=0, alpha=0.85, rasterized=True)
        for name, colour in zip(overlay.class_names, CLASS_COLOURS, strict=True):
            axes.scatter([], [], s=18, color=colour, label=name)
        legend(axes, loc="upper center", bbox_to_anchor=(0.5, 0.0), ncols=2, handletextpad=0.2, columnspacing=1.2)
    else:
        low, high = overlay.ends(values_m)
        points = axes.scatter(
            known_m2[:, 0],
            known_m2[:, 1],
            s=area,
            c=values_m,
            cmap=overlay.colour_map,
            vmin=low,
            vmax=high,
            linewidths=0,
            rasterized=True,
        )
        bar = axes.figure.colorbar(points, cax=axes.inset_axes((1.03, 0.15, 0.03, 0.7)))
        bar.outline.set_visible(False)
        bar.ax.tick_params(labelsize=7, length=2)


def interactive_scatter(
    coordinates_nd: np.ndarray, overlays: Sequence[Overlay], synapse_id: np.ndarray, axis_name: str = "UMAP"
) -> PlotlyFigure:
    """The plane, or space, to zoom, turn and hover in, with a menu that chooses the overlay.

    Args:
        coordinates_nd: float (n, 2) or (n, 3).
        overlays: What to colour by, at least one; the first is shown at the start.
        synapse_id: int64 (n,), shown on hovering.
        axis_name: Name of the axes.

    Returns:
        A plotly figure with two traces per overlay: synapses without a value, and those with one.
    """
    import plotly.graph_objects as go

    figure = go.Figure()
    is_plane = coordinates_nd.shape[1] == 2
    trace_type = go.Scattergl if is_plane else go.Scatter3d
    size = float(np.sqrt(marker_area(len(coordinates_nd))) * (1.7 if is_plane else 1.1))
    for index, overlay in enumerate(overlays):
        is_known = np.isfinite(overlay.values_n)
        for known in (False, True):
            chosen = is_known == known
            marker = _known_marker(overlay, overlay.values_n[chosen]) if known else {"color": UNKNOWN}
            figure.add_trace(
                trace_type(
                    **dict(zip("xyz", coordinates_nd[chosen].T, strict=False)),
                    mode="markers",
                    name=overlay.label if known else "not annotated",
                    # Ids beyond 2^53 would lose digits as JavaScript numbers.
                    text=[str(value) for value in synapse_id[chosen]],
                    customdata=_value_texts(overlay, overlay.values_n[chosen]),
                    hovertemplate=f"synapse %{{text}}<br>{overlay.label}: %{{customdata}}<extra></extra>",
                    marker={"size": size, **marker},
                    visible=index == 0,
                    showlegend=False,
                )
            )
    n_traces = 2 * len(overlays)
    buttons = [
        {
            "label": overlay.label,
            "method": "update",
            "args": [{"visible": [trace // 2 == index for trace in range(n_traces)]}],
        }
        for index, overlay in enumerate(overlays)
    ]
    menu = {"buttons": buttons, "x": 0.0, "xanchor": "left", "y": 1.02, "yanchor": "bottom", "bgcolor": "white"}
    figure.update_layout(**plotly_layout(620), updatemenus=[menu])
    bare = {"showticklabels": False, "showgrid": False, "zeroline": False}
    figure.update_xaxes(title=f"{axis_name} 1", **bare)
    figure.update_yaxes(title=f"{axis_name} 2", scaleanchor="x", scaleratio=1, **bare)
    if not is_plane:
        scene = {f"{axis}axis": {"title": f"{axis_name} {number}", **bare} for number, axis in enumerate("xyz", 1)}
        figure.update_layout(scene={**scene, "aspectmode": "data"})
    return figure


def _value_texts(overlay: Overlay, values_m: np.ndarray) -> list[str]:
    if not overlay.class_names:
        return [f"{value:.2f}" if np.isfinite(value) else "not annotated" for value in values_m]
    return [overlay.class_names[int(value)] if np.isfinite(value) else "not annotated" for value in values_m]


def _known_marker(overlay: Overlay, values_m: np.ndarray) -> dict[str, Any]:
    if overlay.class_names:
        return {"color": [CLASS_COLOURS[int(value)] for value in values_m]}
    low, high = overlay.ends(values_m)
    colorbar = {"thickness": 12, "outlinewidth": 0, "len": 0.7}
    return {
        "color": values_m,
        "colorscale": overlay.colour_map.capitalize(),
        "cmin": low,
        "cmax": high,
        "colorbar": colorbar,
        "showscale": True,
    }
