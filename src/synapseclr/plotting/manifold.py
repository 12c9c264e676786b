"""The plane of synapses, coloured by what is known of them; clusters, axes through them, technical effects."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from textwrap import fill
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from synapseclr.analysis.column_labels import column_label, mean_label, number_text
from synapseclr.analysis.traits import TRAITS, Trait, trait_values
from synapseclr.plotting.theme import (
    CYCLE,
    INK,
    MUTED,
    SEQUENTIAL,
    SMALL_PT,
    UNKNOWN,
    class_colours,
    empty_figure,
    legend,
    new_figure,
    note,
    panel_grid,
    plotly_layout,
    style_axes,
    style_image,
    subplot_grid,
)
from synapseclr.volumes.synapse_table import table_rows

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from plotly.graph_objects import Figure as PlotlyFigure

_QUALITY = (
    ("synaptic_cleft_volume", "log10_cleft_volume", ()),
    ("n_cutout_sections", "n_cutout_sections", ()),
    ("is_padded", "is_padded", ("no", "yes")),
)
"""Columns, the names under which they have a label, and their classes."""

_RIGHT_ANGLE_DEG, _HALF_TURN_DEG = 90.0, 180.0
_PROBE_MARKERS = {"linear": ("o", "linear probe"), "knn": ("s", "k-NN probe"), "groups": ("D", "variance between")}


@dataclass(frozen=True)
class Overlay:
    """Values to colour synapses by.

    Attributes:
        label: What they are.
        values_n: float (n,); NaN is drawn grey.
        class_names: Names of the values 0, 1, ...; empty for continuous values.
        colour_map: Colours of continuous values, by matplotlib's name.
        limits: Values at the ends of the colours; None: percentiles 2 and 98.
        unit: As it is printed beside the colours and behind a number.
    """

    label: str
    values_n: np.ndarray
    class_names: tuple[str, ...] = ()
    colour_map: str = SEQUENTIAL
    limits: tuple[float, float] | None = None
    unit: str = ""

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
    coordinates_n2: np.ndarray,
    overlays: Sequence[Overlay],
    columns: int = 3,
    axis_name: str = "UMAP",
    is_sample: bool = False,
) -> Figure:
    """Small multiples of the plane, one per overlay.

    Args:
        coordinates_n2: float (n, 2).
        overlays: What to colour by, at least one.
        columns: Panels per row.
        axis_name: Name of the axes, such as ``UMAP``.
        is_sample: Whether synapses without a value are a sample, of whose number titles say nothing.

    Returns:
        A figure with one panel per overlay. Synapses without a value lie grey underneath; points are the smaller the
        more of a kind there are.
    """
    n_rows = max(_legend_shape(overlay.class_names)[1] for overlay in overlays)
    below_in = 0.28 + _LEGEND_ROW_IN * max(0, n_rows - 1)
    figure, grid = panel_grid(len(overlays), columns, (2.65, 2.65), right_in=0.7, below_in=below_in)
    for axes, overlay in zip(grid, overlays, strict=True):
        draw_panel(axes, coordinates_n2, overlay, is_sample)
        for place, rotation, number in (((0.02, 0.02), 0, 1), ((0.02, 0.13), 90, 2)):
            label = f"{axis_name} {number}"
            axes.text(
                *place, label, transform=axes.transAxes, fontsize=SMALL_PT, color=MUTED, rotation=rotation, va="bottom"
            )
    return figure


def draw_panel(axes: Axes, coordinates_n2: np.ndarray, overlay: Overlay, is_sample: bool = False) -> None:
    """Draw the plane into existing axes, coloured by one overlay: float (n, 2), synapses without a value in grey."""
    is_known = np.isfinite(overlay.values_n)
    area = marker_area(len(coordinates_n2))
    unknown_m2 = coordinates_n2[~is_known]
    axes.scatter(unknown_m2[:, 0], unknown_m2[:, 1], s=0.6 * area, color=UNKNOWN, linewidths=0, rasterized=True)
    known_m2, values_m = coordinates_n2[is_known], overlay.values_n[is_known]
    area = marker_area(len(known_m2))  # a few annotated ones among many would be too small to see
    number = f"{is_known.sum():,} drawn" if is_sample else f"{is_known.sum():,} of {len(is_known):,}"
    style_image(axes, f"{overlay.label} ({number})")
    axes.margins(0.04)
    if not is_known.any():
        note(axes, "not annotated")
    elif overlay.class_names:
        palette = class_colours(len(overlay.class_names))
        colours = np.array(palette)[values_m.astype(int)]
        # One call in the given order, so that neither class lies on top of the other.
        axes.scatter(known_m2[:, 0], known_m2[:, 1], s=area, c=colours, linewidths=0, alpha=0.85, rasterized=True)
        for name, colour in zip(overlay.class_names, palette, strict=False):
            axes.scatter([], [], s=18, color=colour, label=name)
        n_columns, _ = _legend_shape(overlay.class_names)
        is_small = len(overlay.class_names) > 2
        legend(
            axes,
            loc="upper center",
            bbox_to_anchor=(0.5, 0.0),
            ncols=n_columns,
            handletextpad=0.2,
            columnspacing=0.8 if is_small else 1.2,
            **({"labelspacing": 0.2} if is_small else {}),
        )
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
        bar.ax.tick_params(labelsize=SMALL_PT, length=2)
        if len(overlay.unit) > _LETTERS_ABOVE_COLOURS:
            bar.set_label(overlay.unit, fontsize=SMALL_PT, color=MUTED, labelpad=1)
        else:
            bar.ax.set_title(overlay.unit, fontsize=SMALL_PT, color=MUTED, pad=2)


_LETTERS_ABOVE_COLOURS = 3  # a longer unit stands beside the colours
_LEGEND_ROW_IN = 0.15
_LEGEND_LETTERS = 37
"""Letters, with three for each mark, that a line of a legend of several classes holds below a panel."""


def _legend_shape(class_names: Sequence[str]) -> tuple[int, int]:
    """Columns and rows of the legend of a panel."""
    if len(class_names) <= 2:
        return 2, 1
    longest = max(len(name) for name in class_names) + 3
    n_columns = min(len(class_names), max(1, _LEGEND_LETTERS // longest))
    return n_columns, -(-len(class_names) // n_columns)


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
    scale = 1.7 if is_plane else 1.1
    for index, overlay in enumerate(overlays):
        is_known = np.isfinite(overlay.values_n)
        for known in (False, True):
            chosen = is_known == known
            size = scale * float(np.sqrt(marker_area(int(is_known.sum()) if known else len(is_known))))
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
        return [number_text(value, overlay.unit) if np.isfinite(value) else "not annotated" for value in values_m]
    return [overlay.class_names[int(value)] if np.isfinite(value) else "not annotated" for value in values_m]


def _known_marker(overlay: Overlay, values_m: np.ndarray) -> dict[str, Any]:
    if overlay.class_names:
        palette = class_colours(len(overlay.class_names))
        return {"color": [palette[int(value)] for value in values_m]}
    low, high = overlay.ends(values_m)
    colorbar = {"thickness": 12, "outlinewidth": 0, "len": 0.7, "title": {"text": overlay.unit, "side": "right"}}
    return {
        "color": values_m,
        "colorscale": overlay.colour_map.capitalize(),
        "cmin": low,
        "cmax": high,
        "colorbar": colorbar,
        "showscale": True,
    }


def orientation_overlays(obs: pd.DataFrame, orientations: pd.DataFrame) -> list[Overlay]:
    """The cleft's angle to the sections, and its direction within them.

    Args:
        obs: One row per synapse, with ``synapse_id``.
        orientations: ``synapse_id``, ``tilt_deg``, ``azimuth_deg``; synapses that are missing stay grey.
    """
    known = table_rows(orientations, obs["synapse_id"])
    tilt_n, azimuth_n = known["tilt_deg"].to_numpy(dtype=float), known["azimuth_deg"].to_numpy(dtype=float)
    return [
        _overlay("tilt_deg", tilt_n, limits=(0.0, _RIGHT_ANGLE_DEG)),
        _overlay("azimuth_deg", azimuth_n, colour_map="twilight", limits=(0.0, _HALF_TURN_DEG)),
    ]


def _overlay(name: str, values_n: np.ndarray, traits: Sequence[Trait] = TRAITS, **options: Any) -> Overlay:
    """Values under the label and the unit of their column."""
    label, unit = column_label(name, traits)
    return Overlay(label, values_n, unit=unit, **options)


def collect_overlays(obs: pd.DataFrame, traits: Sequence[Trait] = TRAITS) -> list[Overlay]:
    """Choose the overlays that these synapses allow.

    Args:
        obs: One row per synapse: metadata and annotations.
        traits: Traits to colour by.

    Returns:
        Annotated traits in their order, then chunk quality; at least one overlay, if only a grey one.
    """
    overlays = [
        _overlay(trait.name, trait_values(obs, trait), traits, class_names=trait.class_names) for trait in traits
    ]
    overlays = [overlay for overlay in overlays if np.isfinite(overlay.values_n).any()]
    for column, name, class_names in _QUALITY:
        if column in obs:
            values_n = obs[column].astype("float64").to_numpy()
            if column == "synaptic_cleft_volume":
                # A chunk without a cleft has no volume to take the logarithm of: grey.
                values_n = np.log10(np.where(values_n > 0, values_n, np.nan))
            overlays.append(_overlay(name, values_n, class_names=class_names))
    return overlays or [Overlay("synapses", np.full(len(obs), np.nan))]


@dataclass(frozen=True)
class DrawnAxis:
    """An axis as it lies in the plane.

    Attributes:
        name: Its name, such as ``0.1``.
        ends_22: float (2, 2): lower and upper end.
        samples_k2: float (k, 2): places of the synapses sampled along it.
    """

    name: str
    ends_22: np.ndarray
    samples_k2: np.ndarray


def cluster_colour(cluster: int) -> str:
    """Colour of a cluster; grey for none."""
    return UNKNOWN if cluster < 0 else CYCLE[cluster % len(CYCLE)]


def cluster_map(
    coordinates_n2: np.ndarray, label_n: np.ndarray, axes_drawn: Sequence[DrawnAxis], axis_name: str = "UMAP"
) -> Figure:
    """The plane coloured by cluster, with the axes of the largest clusters and the synapses sampled along them.

    Args:
        coordinates_n2: float (n, 2).
        label_n: int (n,): cluster of each synapse, -1 for none.
        axes_drawn: Axes to draw.
        axis_name: Name of the plane's axes.

    Returns:
        A figure with one panel; numbers stand at the middle of their cluster.
    """
    from matplotlib.patheffects import withStroke

    figure = new_figure(6.4, 5.6)
    axes = figure.add_subplot()
    area = marker_area(len(coordinates_n2))
    colours = [cluster_colour(int(label)) for label in label_n]
    axes.scatter(
        coordinates_n2[:, 0], coordinates_n2[:, 1], s=1.4 * area, c=colours, linewidths=0, alpha=0.7, rasterized=True
    )
    for drawn in axes_drawn:
        (x_0, y_0), (x_1, y_1) = drawn.ends_22
        arrow = {"arrowstyle": "-|>", "color": INK, "linewidth": 1.3, "shrinkA": 0, "shrinkB": 0}
        axes.annotate("", xy=(x_1, y_1), xytext=(x_0, y_0), arrowprops=arrow)
        axes.annotate(drawn.name, (x_1, y_1), xytext=(4, 4), textcoords="offset points", fontsize=SMALL_PT, color=INK)
        x_k, y_k = drawn.samples_k2.T
        axes.scatter(x_k, y_k, s=26, facecolors="none", edgecolors=INK, linewidths=0.9)
    for cluster in range(int(label_n.max()) + 1):
        centre = np.median(coordinates_n2[label_n == cluster], axis=0)
        text = axes.text(
            centre[0], centre[1], str(cluster), fontsize=13, fontweight="bold", ha="center", va="center", color=INK
        )
        text.set_path_effects([withStroke(linewidth=3.5, foreground="white")])
    n_none = int((label_n < 0).sum())
    style_image(axes, f"{int(label_n.max()) + 1} clusters; {n_none} of {len(label_n):,} synapses in none (grey)")
    axes.margins(0.05)
    axes.set_xlabel(f"{axis_name} 1", fontsize=SMALL_PT, color=MUTED)
    axes.set_ylabel(f"{axis_name} 2", fontsize=SMALL_PT, color=MUTED)
    return figure


def axis_profile_panels(profiles: pd.DataFrame, traits: Sequence[Trait] = TRAITS) -> Figure:
    """Draw how traits change along axes: means with 90 % intervals.

    Args:
        profiles: As :func:`synapseclr.analysis.manifold.axis_profiles` returns it.
        traits: Declared traits, for classes and units.

    Returns:
        A figure with one panel per trait and one line per axis, in the colour of its cluster (second axes dashed).
    """
    names = list(dict.fromkeys(profiles["trait"]))
    if not names:
        return empty_figure("no axis, or nothing is annotated")
    figure, grid = subplot_grid(len(names), 4, (2.55, 2.1), (0.0, 0.7))
    for axes, name in zip(grid, names, strict=True):
        of_trait = profiles[profiles["trait"] == name]
        label = str(of_trait["label"].iloc[0])
        style_axes(axes, fill(label, 25), "place along the axis", fill(mean_label(name, traits), 20), grid="y")
        axes.title.set_fontsize(8.5)
        for (cluster, number), line in of_trait.groupby(["cluster", "axis"], sort=True):
            colour = cluster_colour(int(cluster))
            # Places in units of the axis, so that axes of different length can be compared.
            place = line["position"] / max(float(line["position"].abs().max()), 1e-9)
            style = "-" if number == 1 else "--"
            drawn: dict[str, Any] = {"color": colour, "label": f"cluster {cluster}, axis {number}"}
            axes.plot(place, line["mean"], style, marker="o", markersize=3, linewidth=1.3, **drawn)
            axes.fill_between(place, line["lower_90"], line["upper_90"], color=colour, alpha=0.13, linewidth=0)
    handles, labels = grid[0].get_legend_handles_labels()
    figure.legend(
        handles, labels, loc="outside lower center", ncols=min(4, len(labels)), frameon=False, fontsize=SMALL_PT
    )
    return figure


def leakage_panel(
    leakage: pd.DataFrame, effect_labels: Mapping[str, str], styles: Mapping[str, tuple[str, str]]
) -> Figure:
    """Technical effects in features, against their null.

    Args:
        leakage: As :func:`synapseclr.analysis.leakage_scores.measure_leakage` returns it, of one layer.
        effect_labels: Effect to its name for people, in order.
        styles: Representation to label and colour.

    Returns:
        A figure: marks are scores; grey bars reach from the mean to the 95th percentile of what permutations give.
    """
    measured = leakage[np.isfinite(leakage["score"])]
    effects = [name for name in effect_labels if name in set(measured["effect"])]
    figure = new_figure(7.6, 1.5 + 0.5 * max(2, len(effects)))
    axes = figure.add_subplot()
    style_axes(axes, "What can be read off features", "explained fraction of the variance", grid="x")
    if not effects:
        axes.set_yticks([])
        note(axes, "no technical effect could be measured")
        return figure
    lanes = [(name, probe) for name in styles for probe in ("linear", "knn")]
    for row in measured.to_dict("records"):
        name, probe = str(row["representation"]), str(row["probe"])
        lane = lanes.index((name, "linear" if probe == "groups" else probe)) + (0.5 if probe == "groups" else 0.0)
        height = effects.index(str(row["effect"])) + (lane - (len(lanes) - 1) / 2) * 0.72 / len(lanes)
        _draw_score(axes, row, height, styles[name][1])
    axes.axvline(0, color=MUTED, linewidth=1, linestyle="--")
    axes.set_yticks(range(len(effects)), [effect_labels[name] for name in effects])
    axes.set_ylim(len(effects) - 0.5, -0.5)
    axes.set_xlim(left=max(-0.3, axes.get_xlim()[0]), right=max(0.3, axes.get_xlim()[1]))
    for label, colour in styles.values():
        axes.scatter([], [], s=26, color=colour, label=label)
    for probe, (marker, label) in _PROBE_MARKERS.items():
        if probe in set(measured["probe"]):
            axes.scatter([], [], s=26, facecolors="none", edgecolors=MUTED, marker=marker, label=label)
    axes.plot([], [], color="#bdbdbd", linewidth=4, label="permutations: mean to 95 %")
    legend(axes, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure


def _draw_score(axes: Axes, row: Mapping[Any, Any], height: float, colour: str) -> None:
    null = [float(row["null_mean"]), float(row["null_upper_95"])]
    axes.plot(null, [height, height], color="#bdbdbd", linewidth=4, solid_capstyle="butt", zorder=2)
    axes.scatter(float(row["score"]), height, s=28, color=colour, marker=_PROBE_MARKERS[row["probe"]][0], zorder=3)
