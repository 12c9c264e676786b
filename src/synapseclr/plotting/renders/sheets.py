"""Renders and orthogonal sections laid out on paper."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from synapseclr.analysis.handcrafted import cleft_plane
from synapseclr.plotting.renders.image import render_synapse
from synapseclr.plotting.sections import draw_section, mask_legend
from synapseclr.plotting.theme import panel_grid, style_image

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_VIEWS = (("xy", (0, 1, 2)), ("xz", (0, 2, 1)), ("yz", (1, 2, 0)))


def render_sheet(
    chunks: Iterable[np.ndarray],
    voxel_size_nm: Sequence[float],
    titles: Sequence[str],
    columns: int = 6,
    size_px: int = 300,
) -> Figure:
    """Many synapses in three dimensions, presynaptic side up.

    Args:
        chunks: uint8 (2, x, y, z) each; may be read one by one.
        voxel_size_nm: Voxel size (x, y, z).
        titles: One heading per synapse, such as its id; at least one.
        columns: Synapses per row.
        size_px: Side of each render.

    Returns:
        A figure with one pair of axes per synapse.
    """
    figure, grid = panel_grid(len(titles), columns, (1.7, 1.7), above_in=0.3, foot_in=0.35)
    for axes, chunk_cxyz, title in zip(grid, chunks, titles, strict=True):
        axes.imshow(render_synapse(chunk_cxyz, voxel_size_nm, size_px), interpolation="antialiased")
        style_image(axes)
        axes.set_title(title, loc="left", fontsize=6.5, pad=3)
    mask_legend(figure)
    return figure


def orthogonal_views(
    chunk_cxyz: np.ndarray, voxel_size_nm: Sequence[float], title: str = "", opacity: float = 0.28
) -> Figure:
    """Sections through the cleft's centre along the three planes of the volume: EM above, with masks below.

    Args:
        chunk_cxyz: uint8 (2, x, y, z): intensity, mask codes.
        voxel_size_nm: Voxel size (x, y, z).
        title: Heading, such as the synapse id.
        opacity: Opacity of the masks.

    Returns:
        A figure with six axes, each to scale; through the chunk's middle if there is no cleft.
    """
    centre = cleft_plane(chunk_cxyz[1], voxel_size_nm).centre_xyz_nm / np.asarray(voxel_size_nm, dtype=np.float64)
    figure, grid = panel_grid(2 * len(_VIEWS), len(_VIEWS), (2.4, 2.4), foot_in=0.35)
    for column, (name, order) in enumerate(_VIEWS):
        view_cxyz = chunk_cxyz.transpose(0, *(axis + 1 for axis in order))
        size_nm = [float(voxel_size_nm[axis]) for axis in order]
        section = int(np.clip(round(float(centre[order[2]])), 0, view_cxyz.shape[-1] - 1))
        for row, alpha in enumerate((0.0, opacity)):
            axes = grid[row * len(_VIEWS) + column]
            draw_section(axes, view_cxyz, size_nm, section, opacity=alpha, scale_bar=row == 0)
            axes.set_aspect("equal")
        heading = f"{name}, {'xyz'[order[2]]} = {section}"
        grid[column].set_title(f"{title}  {heading}" if column == 0 and title else heading, loc="left", fontsize=8)
    mask_legend(figure)
    return figure
