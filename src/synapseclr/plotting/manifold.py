"""Clusters of the plane with the axes through them, what changes along these, and technical effects."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from synapseclr.plotting.scatter import marker_area
from synapseclr.plotting.theme import CYCLE, INK, MUTED, UNKNOWN, legend, new_figure, note, style_axes, style_image

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


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
        axes.annotate(drawn.name, (x_1, y_1), xytext=(4, 4), textcoords="offset points", fontsize=8, color=INK)
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
    axes.set_xlabel(f"{axis_name} 1", fontsize=8, color=MUTED)
    axes.set_ylabel(f"{axis_name} 2", fontsize=8, color=MUTED)
    return figure


def axis_profile_panels(profiles: pd.DataFrame, class_traits: Mapping[str, str]) -> Figure:
    """How traits change along axes: means with 90 % intervals.

    Args:
        profiles: As :func:`synapseclr.analysis.manifold.axis_profiles` returns it.
        class_traits: Trait to what its fraction counts, for traits that are classes.

    Returns:
        A figure with one panel per trait and one line per axis, in the colour of its cluster (second axes dashed).
    """
    traits = list(dict.fromkeys(profiles["trait"]))
    if not traits:
        figure = new_figure(5.0, 1.5)
        axes = figure.add_subplot()
        axes.set_axis_off()
        note(axes, "no axis, or nothing is annotated")
        return figure
    columns = min(4, len(traits))
    rows = -(-len(traits) // columns)
    figure = new_figure(2.9 * columns, 0.7 + 2.1 * rows)
    grid = np.atleast_1d(figure.subplots(rows, columns)).ravel()
    for axes in grid[len(traits) :]:
        axes.set_axis_off()
    for axes, trait in zip(grid, traits, strict=False):
        of_trait = profiles[profiles["trait"] == trait]
        label = str(of_trait["label"].iloc[0])
        counted = f"share {class_traits[trait]}" if trait in class_traits else ""
        style_axes(axes, label, "place along the axis", counted, grid="y")
        axes.title.set_fontsize(8.5)
        for (cluster, number), line in of_trait.groupby(["cluster", "axis"], sort=True):
            colour = cluster_colour(int(cluster))
            # Places in units of the axis, so that axes of different length can be compared.
            place = line["position"] / max(float(line["position"].abs().max()), 1e-9)
            style = "-" if number == 1 else "--"
            name = f"cluster {cluster}, axis {number}"
            axes.plot(place, line["mean"], style, marker="o", markersize=3, color=colour, label=name, linewidth=1.3)
            axes.fill_between(place, line["lower_90"], line["upper_90"], color=colour, alpha=0.13, linewidth=0)
    handles, labels = grid[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=min(4, len(labels)), frameon=False, fontsize=8)
    return figure


_PROBE_MARKERS = {"linear": ("o", "linear probe"), "knn": ("s", "k-NN probe"), "groups": ("D", "variance between")}


def leakage_panel(
    leakage: pd.DataFrame, effect_labels: Mapping[str, str], styles: Mapping[str, tuple[str, str]]
) -> Figure:
    """Technical effects in features, against their null.

    Args:
        leakage: As :func:`synapseclr.analysis.manifold.measure_leakage` returns it, of one layer.
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
