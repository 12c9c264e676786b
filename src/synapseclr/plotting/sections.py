"""EM sections with translucent masks: one, rows and sheets of them, augmented pairs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from synapseclr.plotting.theme import (
    CLASS_COLOURS,
    INK,
    MASK_COLOURS,
    MASK_NAMES,
    SMALL_PT,
    WIDEST_IN,
    empty_figure,
    fitting_panel_in,
    mark_synapse,
    panel_grid,
    style_image,
)
from synapseclr.volumes.synapse_table import positions_in_store

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from synapseclr.volumes import ChunkStore


CLEFT_CODE = 2
_BAR_LENGTHS_NM = (20, 50, 100, 200, 500, 1000, 2000, 5000, 10000)
_LABEL_IN = 1.25
_PAIRS_PER_ROW = 4
_ROW_PANEL_IN = 1.35


def richest_section(chunk_cxyz: np.ndarray) -> int:
    """Choose the section that shows a synapse best.

    Args:
        chunk_cxyz: uint8 (2, x, y, z): intensity, mask codes.

    Returns:
        Index along z of the section with the most cleft pixels among those that were not cut out; of equal ones the
        most central; the central section if there is no cleft.
    """
    n_sections = chunk_cxyz.shape[-1]
    cleft_z = (chunk_cxyz[1] == CLEFT_CODE).sum(axis=(0, 1))
    cleft_z = np.where(chunk_cxyz[0].any(axis=(0, 1)), cleft_z, 0)
    off_centre_z = np.abs(np.arange(n_sections) - n_sections // 2)
    if not cleft_z.any():
        return n_sections // 2
    return int(np.lexsort((off_centre_z, -cleft_z))[0])


def read_slabs(store: ChunkStore, synapse_id: np.ndarray) -> np.ndarray:
    """Read the section that shows each synapse best.

    Args:
        store: The chunk store.
        synapse_id: int64 (k,).

    Returns:
        uint8 (k, 2, x, y, 1), in the order asked for.

    Raises:
        TableError: If a synapse has no chunk.
    """
    rows_k = positions_in_store(synapse_id, store.synapse_id)
    return np.stack([best_slab(store.read([int(row)])[0]) for row in rows_k])


def best_slab(chunk_cxyz: np.ndarray) -> np.ndarray:
    """Section uint8 (2, x, y, 1) of a chunk that shows its synapse best."""
    section = richest_section(chunk_cxyz)
    return chunk_cxyz[..., section : section + 1]


def mask_overlay(mask_xy: np.ndarray, opacity: float = 0.28) -> np.ndarray:
    """Colour a section's mask codes.

    Args:
        mask_xy: uint8 (x, y), codes 0 to 3.
        opacity: Opacity of the neurites; the cleft, which is small, gets a third more.

    Returns:
        float32 RGBA (y, x, 4) as ``imshow`` takes it; background transparent.
    """
    table = np.zeros((256, 4), dtype=np.float32)
    for code, rgb in MASK_COLOURS.items():
        table[code, :3] = np.array(rgb) / 255.0
        table[code, 3] = min(1.0, opacity * (4 / 3 if code == CLEFT_CODE else 1.0))
    return table[mask_xy.T]


def scale_bar_length_nm(width_nm: float) -> int:
    """Longest round length, in nm, that fills no more than a third of the field of view."""
    fitting = [length for length in _BAR_LENGTHS_NM if length <= width_nm / 3]
    return fitting[-1] if fitting else _BAR_LENGTHS_NM[0]


def draw_section(
    axes: Axes,
    chunk_cxyz: np.ndarray,
    voxel_size_nm: Sequence[float],
    section: int | None = None,
    opacity: float = 0.28,
    scale_bar: bool = True,
) -> int:
    """Draw one section into existing axes, x to the right and y downwards as in Neuroglancer.

    Args:
        axes: Where to draw.
        chunk_cxyz: uint8 (2, x, y, z): intensity, mask codes.
        voxel_size_nm: Voxel size (x, y, z).
        section: Index along z; by default the one from :func:`richest_section`.
        opacity: Opacity of the masks; 0 shows the EM alone.
        scale_bar: Whether to draw a bar of a round length in nm.

    Returns:
        The section drawn.
    """
    section = richest_section(chunk_cxyz) if section is None else section
    width_nm = chunk_cxyz.shape[1] * voxel_size_nm[0]
    height_nm = chunk_cxyz.shape[2] * voxel_size_nm[1]
    extent = (0.0, width_nm, height_nm, 0.0)
    axes.imshow(chunk_cxyz[0, :, :, section].T, cmap="gray", vmin=0, vmax=255, extent=extent, interpolation="nearest")
    if opacity > 0:
        overlay = mask_overlay(chunk_cxyz[1, :, :, section], opacity)
        axes.imshow(overlay, extent=extent, interpolation="nearest")
    style_image(axes)
    if scale_bar:
        _draw_scale_bar(axes, width_nm, height_nm)
    return section


def _draw_scale_bar(axes: Axes, width_nm: float, height_nm: float) -> None:
    from matplotlib.patches import Rectangle
    from matplotlib.patheffects import withStroke

    length_nm = scale_bar_length_nm(width_nm)
    left, top = 0.05 * width_nm, 0.93 * height_nm
    axes.add_patch(
        Rectangle((left, top), length_nm, 0.02 * height_nm, facecolor="white", edgecolor="black", linewidth=0.5)
    )
    label = axes.text(left, top - 0.02 * height_nm, f"{length_nm} nm", color="white", fontsize=SMALL_PT, va="bottom")
    label.set_path_effects([withStroke(linewidth=1.6, foreground="black")])


def mask_legend(figure: Figure) -> None:
    """Name the mask colours below a figure of sections."""
    from matplotlib.patches import Patch

    handles = [
        Patch(facecolor="#{:02x}{:02x}{:02x}".format(*rgb), alpha=0.7, label=MASK_NAMES[code])
        for code, rgb in MASK_COLOURS.items()
    ]
    figure.legend(handles=handles, loc="lower center", ncols=3, frameon=False, fontsize=SMALL_PT)


def synapse_section(chunk_cxyz: np.ndarray, voxel_size_nm: Sequence[float], title: str = "") -> Figure:
    """One synapse: its EM section alone, and with the masks.

    Args:
        chunk_cxyz: uint8 (2, x, y, z): intensity, mask codes.
        voxel_size_nm: Voxel size (x, y, z).
        title: Heading, such as the synapse id.

    Returns:
        A figure with two axes.
    """
    figure, (left, right) = panel_grid(2, 2, (3.1, 3.1), foot_in=0.35)
    section = draw_section(left, chunk_cxyz, voxel_size_nm, opacity=0.0)
    draw_section(right, chunk_cxyz, voxel_size_nm, section=section, scale_bar=False)
    left.set_title(title, loc="left", fontsize=SMALL_PT)
    right.set_title(f"section {section} of {chunk_cxyz.shape[-1]}", loc="left", fontsize=SMALL_PT)
    mask_legend(figure)
    return figure


def contact_sheet(
    chunk_ncxyz: np.ndarray,
    voxel_size_nm: Sequence[float],
    titles: Sequence[str] = (),
    columns: int = 6,
    opacity: float = 0.28,
    synapse_id_n: Sequence[object] = (),
) -> Figure:
    """Many synapses at a glance, one section each.

    Args:
        chunk_ncxyz: uint8 (n, 2, x, y, z), n at least 1.
        voxel_size_nm: Voxel size (x, y, z).
        titles: One heading per synapse, or none.
        columns: Synapses per row.
        opacity: Opacity of the masks.
        synapse_id_n: Ids, to which the report links; or none.

    Returns:
        A figure with one pair of axes per synapse; the first of them bears the scale bar.
    """
    above_in = 0.34 if titles else 0.06
    foot_in = 0.35 if opacity > 0 else 0.1
    side_in = fitting_panel_in(1.6, columns)
    figure, grid = panel_grid(len(chunk_ncxyz), columns, (side_in, side_in), above_in=above_in, foot_in=foot_in)
    for index, chunk_cxyz in enumerate(chunk_ncxyz):
        draw_section(grid[index], chunk_cxyz, voxel_size_nm, opacity=opacity, scale_bar=index == 0)
        if titles:
            grid[index].set_title(titles[index], loc="left", fontsize=SMALL_PT, pad=3)
    for axes, synapse_id in zip(grid, synapse_id_n, strict=False):
        mark_synapse(axes, synapse_id)
    if opacity > 0:
        mask_legend(figure)
    return figure


def section_rows(
    chunk_rkcxyz: Sequence[np.ndarray],
    row_labels: Sequence[str],
    titles: Sequence[Sequence[str]],
    voxel_size_nm: Sequence[float],
    opacity: float = 0.22,
    gap_after: int | None = None,
    synapse_id_rk: Sequence[Sequence[object]] = (),
) -> Figure:
    """Draw rows of synapses with a label before each row.

    Args:
        chunk_rkcxyz: Per row uint8 (k, 2, x, y, z); rows may be of different length.
        row_labels: What each row shows.
        titles: Per row, a heading per synapse.
        voxel_size_nm: Voxel size (x, y, z).
        opacity: Opacity of the masks.
        gap_after: Position after which a line separates two halves of every row.
        synapse_id_rk: Ids per row, to which the report links; or none.

    Returns:
        A figure with one pair of axes per synapse. Without rows, a figure that says so.
    """
    if not len(chunk_rkcxyz):
        return empty_figure("no synapses to show")
    columns = max(len(row) for row in chunk_rkcxyz)
    side_in = fitting_panel_in(_ROW_PANEL_IN, columns, WIDEST_IN - _LABEL_IN)
    figure, grid = panel_grid(len(chunk_rkcxyz) * columns, columns, (side_in, side_in), above_in=0.34, foot_in=0.35)
    width_in, height_in = figure.get_size_inches()
    figure.set_size_inches(width_in + _LABEL_IN, height_in)
    shrink = width_in / (width_in + _LABEL_IN)
    for axes in grid:
        x, y, width, height = axes.get_position().bounds
        axes.set_position((1 - shrink + x * shrink, y, width * shrink, height))
    for row, chunks in enumerate(chunk_rkcxyz):
        for column in range(columns):
            axes = grid[row * columns + column]
            if column >= len(chunks):
                axes.set_axis_off()
                continue
            draw_section(axes, chunks[column], voxel_size_nm, opacity=opacity, scale_bar=column == 0)
            axes.set_title(titles[row][column], loc="left", fontsize=SMALL_PT, color=INK, pad=3)
            if len(synapse_id_rk):
                mark_synapse(axes, synapse_id_rk[row][column])
            if gap_after is not None and column == gap_after:
                x = 1.0 + 0.03
                axes.plot([x, x], [0, 1.15], transform=axes.transAxes, color=CLASS_COLOURS[1], clip_on=False)
        place = grid[row * columns].get_position()
        figure.text(0.005, (place.y0 + place.y1) / 2, row_labels[row], fontsize=SMALL_PT, color=INK, va="center")
    mask_legend(figure)
    return figure


def view_picture(intensity_cxyz: np.ndarray, cleft_xyz: np.ndarray) -> np.ndarray:
    """The section of a view with most cleft, as a picture.

    Args:
        intensity_cxyz: Intensities in [0, 1], (1 or 2, x, y, z).
        cleft_xyz: Boolean mask.

    Returns:
        float32 RGB (y, x, 3): grey for one channel; for two, the first in magenta and the second in green, so that
        what both hold is grey.
    """
    n_sections = cleft_xyz.shape[-1]
    cleft_z = cleft_xyz.sum(axis=(0, 1))
    section = int(cleft_z.argmax()) if cleft_z.any() else n_sections // 2
    pre_xy, post_xy = intensity_cxyz[0, ..., section], intensity_cxyz[-1, ..., section]
    return np.stack([pre_xy.T, post_xy.T, pre_xy.T], axis=-1).astype(np.float32)


def augmented_pairs(
    chunk_ncxyz: np.ndarray,
    intensity_nvcxyz: np.ndarray,
    cleft_nvxyz: np.ndarray,
    voxel_size_nm: Sequence[float],
    synapse_id: Sequence[int],
) -> Figure:
    """Each synapse with its masks, and the views that the objective pulls together.

    Args:
        chunk_ncxyz: uint8 (n, 2, x, y, z): intensity, mask codes.
        intensity_nvcxyz: Intensities of the views in [0, 1], (n, 2, 1 or 2, size, size, size).
        cleft_nvxyz: Boolean cleft masks of the views, (n, 2, size, size, size).
        voxel_size_nm: Voxel size (x, y, z) of the chunks.
        synapse_id: Headings.
    """
    n = len(chunk_ncxyz)
    side_in = fitting_panel_in(1.0, 3 * _PAIRS_PER_ROW)
    figure, panels = panel_grid(3 * n, 3 * _PAIRS_PER_ROW, (side_in, side_in), above_in=0.22)
    for index in range(n):
        chunk, first, second = panels[3 * index : 3 * index + 3]
        draw_section(chunk, chunk_ncxyz[index], voxel_size_nm, scale_bar=index == 0)
        chunk.set_title(str(synapse_id[index]), loc="left", fontsize=SMALL_PT, pad=3)
        mark_synapse(chunk, synapse_id[index])
        for view, axes in enumerate((first, second)):
            picture = view_picture(intensity_nvcxyz[index, view], cleft_nvxyz[index, view])
            axes.imshow(picture, vmin=0, vmax=1, interpolation="nearest")
            style_image(axes)
    return figure
