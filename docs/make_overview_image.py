"""Draw what the software does, in one picture, from the outputs of a run: used by ``docs/make_images.py``."""

from __future__ import annotations

from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch

from synapseclr.augmentation import AugmentationConfig, Augmenter
from synapseclr.plotting.sections import draw_section, view_picture
from synapseclr.plotting.theme import CLASS_COLOURS, INK, MUTED, UNKNOWN, style_image
from synapseclr.volumes import ChunkStore, PrecomputedLayer

_TITLES = (
    "1  a segmented EM volume",
    "2  a chunk around every synapse",
    "3  random views of each",
    "4  a map of all synapses",
    "5  and answers from it",
)
_PANEL_IN, _GAP_IN, _TOP_IN, _FOOT_IN = 2.3, 0.42, 0.34, 0.3


def draw_overview(data_root: Path) -> Figure:
    """From the volume to the answers, drawn from what a demo left.

    Args:
        data_root: The data root of a run of the pipeline ``demo``.
    """
    store = ChunkStore(str(data_root / "02_intermediate/synapse_chunks.zarr"))
    manifold = anndata.read_zarr(data_root / "07_model_output/synapse_manifold.zarr")
    results = pd.read_csv(data_root / "07_model_output/similarity_results.csv")
    width_in = 5 * _PANEL_IN + 4 * _GAP_IN + 0.2
    height_in = _PANEL_IN + _TOP_IN + _FOOT_IN
    figure = Figure(figsize=(width_in, height_in), dpi=120, facecolor="white")
    rng = np.random.default_rng(7)
    obs = manifold.obs
    whole = np.flatnonzero(~obs["is_padded"].to_numpy(bool) & (obs["n_cutout_sections"].to_numpy() == 0))
    rows = rng.choice(whole, size=9, replace=False)
    chunk_ncxyz = store.read(rows)
    _draw_volume(_grid(figure, 0, 1)[0], data_root)
    for axes, chunk_cxyz in zip(_grid(figure, 1, 3), chunk_ncxyz, strict=True):
        draw_section(axes, chunk_cxyz, store.voxel_size_nm, scale_bar=False)
    _draw_views(_grid(figure, 2, 3), chunk_ncxyz[:3], store)
    _draw_map(_grid(figure, 3, 1)[0], manifold)
    _draw_answers(_grid(figure, 4, 3), results, store)
    for index, title in enumerate(_TITLES):
        left = 0.1 + index * (_PANEL_IN + _GAP_IN)
        figure.text(left / width_in, 1 - 0.17 / height_in, title, fontsize=9.5, color=INK, va="center")
        if index:
            y = (_FOOT_IN + _PANEL_IN / 2) / height_in
            start, end = ((left - _GAP_IN + 0.08) / width_in, y), ((left - 0.08) / width_in, y)
            arrow = {"arrowstyle": "-|>", "mutation_scale": 13, "color": MUTED, "linewidth": 1.4}
            figure.add_artist(FancyArrowPatch(start, end, transform=figure.transFigure, **arrow))
    return figure


def _grid(figure: Figure, panel: int, n: int) -> list[Axes]:
    """N x n axes in one of the five panels, row by row from the top."""
    width_in, height_in = figure.get_size_inches()
    space_in = 0.05
    side_in = (_PANEL_IN - (n - 1) * space_in) / n
    axes = []
    for row in range(n):
        for column in range(n):
            x = 0.1 + panel * (_PANEL_IN + _GAP_IN) + column * (side_in + space_in)
            y = _FOOT_IN + (n - 1 - row) * (side_in + space_in)
            place = (x / width_in, y / height_in, side_in / width_in, side_in / height_in)
            axes.append(figure.add_axes(place))
            style_image(axes[-1])
    return axes


def _draw_volume(axes: Axes, data_root: Path) -> None:
    """A section with every neurite in a colour of its own."""
    folder = (data_root / "01_raw/simulated").resolve()
    cuts = []
    for name, kind in (("em", "image"), ("segmentation", "segmentation")):
        layer = PrecomputedLayer(f"file://{folder}/{name}", kind).at_resolution((16, 16, 40))
        lower, upper = layer.lower_vx, layer.upper_vx
        side = int(min(upper[:2] - lower[:2]) * 0.45)
        middle = (lower + upper) // 2
        start = middle - np.array([side // 2, side // 2, 6])
        cuts.append(layer.read(start, np.array([side, side, 1])).squeeze())
    em_xy, root_xy = cuts
    colours = np.random.default_rng(3).uniform(0.15, 1, (4096, 3))
    overlay = np.concatenate(
        [colours[root_xy.astype(np.int64) % 4096], np.where(root_xy, 0.3, 0.0)[..., None]], axis=-1
    )
    axes.imshow(em_xy.T, cmap="gray", vmin=0, vmax=255)
    axes.imshow(overlay.transpose(1, 0, 2), interpolation="nearest")


def _draw_views(grid: list[Axes], chunk_ncxyz: np.ndarray, store: ChunkStore) -> None:
    """Three synapses, three views each."""
    config = AugmentationConfig.so3(
        axial_to_sagittal_spacing=store.axial_to_sagittal_spacing,
        channel_organization="separate",
        batch_mode="decoupled",
        cutout_poisson_rate=2,
        global_max_relative_displacement=0.1,
    ).resized(64, 48)
    augmenter, generator = Augmenter(config), torch.Generator().manual_seed(5)
    views = augmenter.views(torch.from_numpy(chunk_ncxyz), 3, generator)
    for index, axes in enumerate(grid):
        synapse, view = divmod(index, 3)
        intensity = views[view].intensity_bcxyz[synapse] * config.intensity_std + config.intensity_mean
        cleft = views[view].mask_bcxyz[synapse, 1]
        axes.imshow(view_picture(intensity.numpy(), cleft.numpy()).clip(0, 1))


def _draw_map(axes: Axes, manifold: anndata.AnnData) -> None:
    """The plane, by presynaptic cell type."""
    kind = manifold.obs["pre_cell_type"].to_numpy(float)
    x, y = manifold.obsm["X_umap"].T
    for value, colour in ((np.nan, UNKNOWN), (0, CLASS_COLOURS[0]), (1, CLASS_COLOURS[1])):
        chosen = np.isnan(kind) if np.isnan(value) else kind == value
        axes.scatter(x[chosen], y[chosen], s=7, color=colour, linewidths=0)
    for number, (name, colour) in enumerate(
        (("excitatory", CLASS_COLOURS[0]), ("inhibitory", CLASS_COLOURS[1]), ("not annotated", "#9a9a9a"))
    ):
        axes.text(0.02 + 0.32 * number, -0.065, name, color=colour, fontsize=7, transform=axes.transAxes, va="center")


def _draw_answers(grid: list[Axes], results: pd.DataFrame, store: ChunkStore) -> None:
    """Three queries, framed, with their two nearest neighbours."""
    rows = pd.Index(store.synapse_id)
    queries = list(results["query"].drop_duplicates())[:3]
    for line, query in enumerate(queries):
        found = results[results["query"] == query].sort_values("rank")["synapse_id"].to_numpy()[:3]
        for column, chunk_cxyz in enumerate(store.read(rows.get_indexer(found))):
            axes = grid[3 * line + column]
            draw_section(axes, chunk_cxyz, store.voxel_size_nm, scale_bar=False)
            axes.spines[:].set_color("#d55e00" if column == 0 else UNKNOWN)
            axes.spines[:].set_linewidth(2.2 if column == 0 else 0.7)
    width_in, height_in = grid[0].figure.get_size_inches()
    text = "framed: a query; then those most like it"
    x_in = 0.1 + 4 * (_PANEL_IN + _GAP_IN)
    grid[0].figure.text(x_in / width_in, 0.15 / height_in, text, fontsize=7, color=MUTED, va="center")
