"""Correlations of features, spectra of layers, and components against traits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from synapseclr.plotting.theme import (
    CYCLE,
    INK,
    LAYER_LABELS,
    MUTED,
    REPRESENTATION_LABELS,
    SMALL_PT,
    WIDEST_IN,
    empty_figure,
    legend,
    new_figure,
    style_axes,
    style_image,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DIVERGING = "RdBu_r"
_DARK = 0.55


def correlation_map(correlation_mm: np.ndarray, linkage: np.ndarray, cluster_m: np.ndarray, title: str) -> Figure:
    """Correlations of features in the order of their tree, with the tree and its clusters.

    Args:
        correlation_mm: float (m, m), in the order of the tree.
        linkage: float (m - 1, 4): the tree; without rows there is none.
        cluster_m: int (m,): cluster of each feature, in the same order.
        title: Heading.

    Returns:
        A figure; without features that vary, one that says so.
    """
    from matplotlib.colors import ListedColormap
    from scipy.cluster.hierarchy import dendrogram

    if not len(correlation_mm):
        return empty_figure("all features are constant")
    figure = new_figure(6.2, 6.6)
    grid = figure.add_gridspec(3, 2, height_ratios=(1.0, 0.16, 6.0), width_ratios=(6.0, 0.16))
    tree, strip, body, bar = (figure.add_subplot(grid[place]) for place in ((0, 0), (1, 0), (2, 0), (2, 1)))
    tree.set_axis_off()
    tree.set_title(title, loc="left", fontsize=9.5, color=INK)
    if len(linkage):
        dendrogram(linkage, ax=tree, no_labels=True, color_threshold=0, above_threshold_color=MUTED)
        for lines in tree.collections:
            lines.set_linewidth(0.5)
    style_image(strip)
    strip.imshow(
        (cluster_m[None, :] - 1) % len(CYCLE), cmap=ListedColormap(CYCLE), vmin=0, vmax=len(CYCLE) - 1, aspect="auto"
    )
    style_image(body)
    picture = body.imshow(correlation_mm, cmap=DIVERGING, vmin=-1, vmax=1, interpolation="nearest", aspect="auto")
    for edge in np.flatnonzero(np.diff(cluster_m)) + 0.5:
        body.axhline(edge, color="white", linewidth=0.6)
        body.axvline(edge, color="white", linewidth=0.6)
    body.set_xlabel(f"{len(correlation_mm)} features; colours: clusters of the tree", fontsize=SMALL_PT, color=INK)
    colours = figure.colorbar(picture, cax=bar, label="Pearson correlation")
    colours.outline.set_visible(False)
    bar.tick_params(labelsize=SMALL_PT)
    return figure


def spectrum_figure(
    spectra: pd.DataFrame, notes: Mapping[tuple[str, str], str], labels: Mapping[str, str] = REPRESENTATION_LABELS
) -> Figure:
    """Principal component spectra of the layers.

    Args:
        spectra: As :func:`synapseclr.analysis.features.layer_spectra` returns it.
        notes: (representation, layer) to a few words for the legend, such as the participation ratio.
        labels: Names of the representations for people.

    Returns:
        A figure: fraction of the variance per component on logarithmic axes, and the cumulative one. The first
        representation is solid, others are dashed.
    """
    figure = new_figure(9.4, 3.8)
    left, right = figure.subplots(1, 2)
    style_axes(left, "Fraction of the variance", "component", "", grid="both")
    style_axes(right, "Cumulative", "component", "", grid="both")
    names = list(dict.fromkeys(spectra["representation"]))
    layers = list(dict.fromkeys(spectra["layer"]))
    for (name, layer), rows in spectra.groupby(["representation", "layer"], sort=False):
        colour = CYCLE[layers.index(layer) % len(CYCLE)]
        style = "-" if name == names[0] else "--"
        prefix = "" if name == names[0] else f"{labels.get(str(name), name)}: "
        label = f"{prefix}{LAYER_LABELS.get(str(layer), layer)} {notes.get((str(name), str(layer)), '')}"
        visible = rows[rows["fraction"] > 1e-9]
        left.loglog(visible["component"], visible["fraction"], style, color=colour, linewidth=1.4, label=label)
        right.semilogx(rows["component"], rows["cumulative"], style, color=colour, linewidth=1.4)
    right.axhline(0.9, color=MUTED, linewidth=0.9, linestyle=":")
    right.set_ylim(0, 1.02)
    legend(left, loc="lower left")  # where no falling spectrum is
    return figure


def component_trait_map(table: pd.DataFrame, significance: float) -> Figure:
    """Spearman correlations of components with traits.

    Args:
        table: As :func:`synapseclr.analysis.features.component_traits` returns it.
        significance: Level of the corrected p-values.

    Returns:
        A figure, one cell per component and trait. Two stars: significant after Bonferroni; one: after Benjamini and
        Hochberg only; in brackets: the interval by neurite holds 0. Grey cells were not tested.
    """
    components, labels = list(dict.fromkeys(table["component"])), list(dict.fromkeys(table["label"]))
    width_in = min(0.95, (WIDEST_IN - 2.2) / max(1, len(labels)))
    figure = new_figure(2.2 + width_in * len(labels), 1.8 + 0.42 * len(components))
    axes = figure.add_subplot()
    style_image(axes)
    axes.set_facecolor("#e4e4e4")
    rho_ct = table.pivot_table("rho", "component", "label", dropna=False).reindex(index=components, columns=labels)
    limit = max(0.3, float(np.nanmax(np.abs(rho_ct.to_numpy()), initial=0.0)))
    picture = axes.imshow(rho_ct, cmap=DIVERGING, vmin=-limit, vmax=limit, aspect="auto")
    for row in table.to_dict("records"):
        if not np.isfinite(row["rho"]):
            continue
        stars = "*" * (int(row["p_benjamini_hochberg"] < significance) + int(row["p_bonferroni"] < significance))
        text = f"{row['rho']:.2f}{stars}"
        text = f"({text})" if row["lower_90"] <= 0 <= row["upper_90"] else text
        colour = "white" if abs(row["rho"]) > _DARK * limit else INK
        place = (labels.index(row["label"]), components.index(row["component"]))
        axes.text(*place, text, ha="center", va="center", fontsize=SMALL_PT, color=colour)
    axes.set_xticks(range(len(labels)), [label.replace(" ", "\n") for label in labels], fontsize=SMALL_PT)
    axes.set_yticks(range(len(components)), [f"PC {component}" for component in components], fontsize=SMALL_PT)
    axes.set_title("Spearman correlation of principal components with traits", loc="left", fontsize=9.5, color=INK)
    bar = figure.colorbar(picture, ax=axes, shrink=0.8, pad=0.02)
    bar.outline.set_visible(False)
    bar.ax.tick_params(labelsize=SMALL_PT)
    return figure
