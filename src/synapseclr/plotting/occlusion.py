"""Figures of occlusion: effects of regions made grey, and maps of the effects of patches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from synapseclr.plotting.sections import draw_section, richest_section
from synapseclr.plotting.theme import (
    CLASS_COLOURS,
    CYCLE,
    INK,
    MASK_COLOURS,
    MUTED,
    SMALL_PT,
    empty_figure,
    legend,
    mark_synapse,
    new_figure,
    style_axes,
    subplot_grid,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_NOTHING = "No synapse was explained."
_MAP_ALPHA = 0.65
_SECTIONS = 3


def occlusion_bars(summary: pd.DataFrame) -> Figure:
    """Draw mean effects by region and class, with 90 % intervals.

    Args:
        summary: As :func:`synapseclr.analysis.occlusion.summarise_effects` makes it.

    Returns:
        One panel a trait with the change of its score, and one with the distance that the features move.
    """
    if summary.empty:
        return empty_figure(_NOTHING)
    traits = list(dict.fromkeys(summary["trait"]))
    figure, panels = subplot_grid(len(traits) + 1, 3, (3.3, 2.8), (0.3, 0.2))
    for trait, axes in zip(traits, panels, strict=False):
        rows = summary[summary["trait"] == trait]
        style_axes(axes, str(rows["label"].iloc[0]), "", "change of the score", grid="y")
        _draw_bars(axes, rows, "change")
    style_axes(panels[-1], "features", "", "cosine distance", grid="y")
    _draw_bars(panels[-1], summary[summary["trait"] == traits[0]], "distance")
    return figure


def _draw_bars(axes: Axes, rows: pd.DataFrame, what: str) -> None:
    regions, groups = list(dict.fromkeys(rows["region"])), sorted(set(rows["group"]))
    width = 0.8 / len(groups)
    colours = CLASS_COLOURS if len(groups) <= len(CLASS_COLOURS) else CYCLE
    for number, group in enumerate(groups):
        of_group = rows[rows["group"] == group].set_index("region").loc[regions]
        places = np.arange(len(regions)) + (number - (len(groups) - 1) / 2) * width
        means = of_group[what].to_numpy(float)
        below = np.maximum(means - of_group[f"{what}_lower_90"].to_numpy(float), 0)
        above = np.maximum(of_group[f"{what}_upper_90"].to_numpy(float) - means, 0)
        axes.bar(
            places,
            means,
            width * 0.92,
            yerr=(below, above),
            color=colours[number % len(colours)],
            label=f"{group} (n = {int(of_group['n'].iloc[0])})",
            error_kw={"ecolor": INK, "elinewidth": 0.9, "capsize": 2},
        )
    axes.axhline(0, color=MUTED, linewidth=0.8)
    axes.set_xticks(range(len(regions)), regions)
    low, high = axes.get_ylim()
    axes.set_ylim(low, high + 0.35 * (high - low))  # room for the legend
    legend(axes, loc="upper right")


def occlusion_maps(
    patches: pd.DataFrame, chunks: Mapping[int, np.ndarray], voxel_size_nm: Sequence[float], trait: str | None = None
) -> Figure:
    """Draw the effects of patches over sections of synapses.

    Args:
        patches: The table of occluded patches.
        chunks: uint8 (2, x, y, z) by synapse id.
        voxel_size_nm: Voxel size (x, y, z).
        trait: The trait whose change is drawn; the first by default.

    Returns:
        A row a synapse: the section of the largest cleft alone, then sections through the layers of patches with the
        change of the score where the patch was made grey: red raises it, blue lowers it.
    """
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    if patches.empty:
        return empty_figure(_NOTHING)
    trait = trait or str(patches["trait"].iloc[0])
    patches = patches[patches["trait"] == trait]
    limit = float(np.abs(patches["change"]).max()) or 1.0
    identifiers = list(dict.fromkeys(patches["synapse_id"]))
    figure = new_figure(2.05 * (_SECTIONS + 1) + 0.9, 2.25 * len(identifiers) + 0.3)
    grid = np.atleast_2d(figure.subplots(len(identifiers), _SECTIONS + 1))
    for identifier, row in zip(identifiers, grid, strict=True):
        chunk_cxyz = chunks[int(identifier)]
        draw_section(row[0], chunk_cxyz, voxel_size_nm)
        mark_synapse(row[0], identifier)
        row[0].set_title(f"synapse {identifier}", loc="left", fontsize=SMALL_PT, color=INK)
        change_xyz = _map_of(patches[patches["synapse_id"] == identifier], chunk_cxyz.shape[1:])
        for axes, section in zip(row[1:], _shown_sections(chunk_cxyz), strict=True):
            _draw_map(axes, chunk_cxyz, change_xyz, section, voxel_size_nm, limit)
    scale = ScalarMappable(Normalize(-limit, limit), "RdBu_r")
    colours = figure.colorbar(scale, ax=grid.ravel().tolist(), shrink=0.7)
    colours.set_label("change of the score", fontsize=8.5, color=INK)
    colours.outline.set_visible(False)
    colours.ax.tick_params(labelsize=SMALL_PT)
    return figure


def _shown_sections(chunk_cxyz: np.ndarray) -> list[int]:
    """The section of the largest cleft, one before and one behind it, as far as the chunk goes."""
    n_sections, middle = chunk_cxyz.shape[-1], richest_section(chunk_cxyz)
    step = max(1, n_sections // 5)
    return [int(np.clip(middle + shift, 0, n_sections - 1)) for shift in (-step, 0, step)]


def _map_of(patches: pd.DataFrame, shape_xyz: tuple[int, ...]) -> np.ndarray:
    change_xyz = np.zeros(shape_xyz, dtype=np.float32)
    for row in patches.to_dict("records"):
        window = tuple(slice(int(row[f"start_{axis}"]), int(row[f"stop_{axis}"])) for axis in "xyz")
        change_xyz[window] = row["change"]
    return change_xyz


def _draw_map(
    axes: Axes,
    chunk_cxyz: np.ndarray,
    change_xyz: np.ndarray,
    section: int,
    voxel_size_nm: Sequence[float],
    limit: float,
) -> None:
    draw_section(axes, chunk_cxyz, voxel_size_nm, section, opacity=0.0, scale_bar=False)
    width_nm, height_nm = (chunk_cxyz.shape[1 + n] * voxel_size_nm[n] for n in (0, 1))
    axes.imshow(
        change_xyz[:, :, section].T,
        cmap="RdBu_r",
        vmin=-limit,
        vmax=limit,
        alpha=_MAP_ALPHA * np.clip(3 * np.abs(change_xyz[:, :, section].T) / limit, 0, 1),  # no effect: the EM itself
        extent=(0.0, width_nm, height_nm, 0.0),
        interpolation="nearest",
    )
    places = [(np.arange(n) + 0.5) * size for n, size in zip(chunk_cxyz.shape[1:3], voxel_size_nm, strict=False)]
    for code, rgb in MASK_COLOURS.items():
        is_inside_xy = chunk_cxyz[1, :, :, section] == code
        if is_inside_xy.any() and not is_inside_xy.all():
            colour = "#{:02x}{:02x}{:02x}".format(*rgb)
            axes.contour(*places, is_inside_xy.T.astype(float), [0.5], colors=[colour], linewidths=0.9)
    axes.set_title(f"section {section}", loc="left", fontsize=SMALL_PT, color=INK)
