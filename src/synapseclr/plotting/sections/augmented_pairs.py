"""Pairs of augmented views beside the synapses that they come from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from synapseclr.plotting.sections.section import draw_section
from synapseclr.plotting.theme import panel_grid, style_image

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_PAIRS_PER_ROW = 4


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
    figure, panels = panel_grid(3 * n, 3 * _PAIRS_PER_ROW, (1.0, 1.0), above_in=0.22)
    for index in range(n):
        chunk, first, second = panels[3 * index : 3 * index + 3]
        draw_section(chunk, chunk_ncxyz[index], voxel_size_nm, scale_bar=index == 0)
        chunk.set_title(str(synapse_id[index]), loc="left", fontsize=6.5, pad=3)
        for view, axes in enumerate((first, second)):
            picture = view_picture(intensity_nvcxyz[index, view], cleft_nvxyz[index, view])
            axes.imshow(picture, vmin=0, vmax=1, interpolation="nearest")
            style_image(axes)
            axes.set_title(f"view {view + 1}", loc="left", fontsize=6.5, pad=3)
    return figure
