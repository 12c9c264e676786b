"""Renew the pictures of docs/simulation.md: ``python docs/make_simulation_images.py``.

One picture per signature, with synapses of each cell type cut across and along the cleft, and one of the imaging
styles. The volumes are simulated here, in about a minute.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from PIL import Image
from scipy.ndimage import map_coordinates

from synapseclr.plotting.theme import figure_png, panel_grid, style_image
from synapseclr.simulation import SimulatedVolume, SimulationConfig, simulate
from synapseclr.simulation.config import PRESETS

if TYPE_CHECKING:
    from matplotlib.figure import Figure

IMAGES = Path(__file__).resolve().parents[1] / "docs/images/simulation"
FIELD_NM, PIXELS, PANEL_IN = 800.0, 96, 0.95
N_SYNAPSES, N_GREYS, STYLE_FIELD_VX = 5, 14, 130
BLOCK = {"shape_vx": (480, 480, 100), "n_dendrites": 34, "n_fillers": 260, "seed": 1, "cutout_section_fraction": 0.0}
TYPES = {0: "excitatory", 1: "inhibitory"}


@dataclass(frozen=True)
class Row:
    """A row of synapses of one cell type, cut across the cleft (presynaptic side up) or along it at a distance."""

    side: str
    cell_type: int
    behind_nm: float | None = None

    @property
    def title(self) -> str:
        """Cell type and direction of the cut."""
        cut = "across the cleft" if self.behind_nm is None else f"along it, {abs(self.behind_nm):.0f} nm away"
        return f"{self.side}synaptic cell {TYPES[self.cell_type]}: {cut}"


ROWS = [Row("pre", t) for t in TYPES] + [Row("pre", t, -160) for t in TYPES]
ROWS += [Row("post", t) for t in TYPES] + [Row("post", t, 35) for t in TYPES]


def choose(volume: SimulatedVolume, side: str, cell_type: int) -> pd.DataFrame:
    """The synapses of a type whose clefts are largest, away from the volume's faces; without mitochondria first."""
    truth, size_nm = volume.truth_table, np.array(volume.voxel_size_nm)
    centres_n3 = truth[[f"centre_{axis}_nm" for axis in "xyz"]].to_numpy()
    inside_n = (
        (centres_n3 > FIELD_NM / 2) & (centres_n3 < np.array(volume.em_xyz.shape) * size_nm - FIELD_NM / 2)
    ).all(axis=1)
    wanted = truth[inside_n & (truth[f"{side}_cell_type"] == cell_type)]
    wanted = wanted.assign(has_mito=wanted[f"n_mitos_{side}"] > 0)
    return wanted.sort_values(["has_mito", "cleft_size_vx"], ascending=[True, False]).head(N_SYNAPSES)


def cut(volume: SimulatedVolume, synapse: pd.Series, behind_nm: float | None) -> np.ndarray:
    """A plane through a synapse, uint8 (rows, columns): with the normal pointing down, or at right angles to it."""
    centre, normal = (
        synapse[[name.format(axis) for axis in "xyz"]].to_numpy(float) for name in ("centre_{}_nm", "normal_{}")
    )
    # The cut across runs along the sections as far as the normal lets it: pixels are finest there.
    first = np.cross(normal, [0.0, 0.0, 1.0])
    first /= np.linalg.norm(first)
    down = normal if behind_nm is None else np.cross(normal, first)
    offset_nm = (np.arange(PIXELS) - (PIXELS - 1) / 2) * FIELD_NM / PIXELS
    points = centre + (behind_nm or 0.0) * normal + offset_nm[:, None, None] * down + offset_nm[None, :, None] * first
    where = (points / volume.voxel_size_nm - 0.5).transpose(2, 0, 1)
    return map_coordinates(volume.em_xyz, where, order=1, output=np.float32).astype(np.uint8)


def save(figure: Figure, name: str) -> None:
    """Write a figure as a PNG of few greys: noise makes more of them costly."""
    with Image.open(io.BytesIO(figure_png(figure))) as opened:
        step = 255 / (N_GREYS - 1)
        level_yx = np.round(np.asarray(opened.convert("L")) / step).astype(np.uint8)
    picture = Image.fromarray(level_yx, mode="P")
    picture.putpalette([round(step * level) for level in range(N_GREYS) for _ in "rgb"])
    picture.save(IMAGES / f"{name}.png", optimize=True, bits=4)


def draw_signature(signature: str) -> None:
    """Eight rows of synapses: both sides, both types, two cuts."""
    volume = simulate(SimulationConfig.model_validate(BLOCK | {"signature": signature, "defect_fraction": 0.0}))
    figure, axes = panel_grid(len(ROWS) * N_SYNAPSES, N_SYNAPSES, (PANEL_IN,) * 2, above_in=0.22, below_in=0.02)
    places = iter(axes)
    for row in ROWS:
        for k, (_, synapse) in enumerate(choose(volume, row.side, row.cell_type).iterrows()):
            place = next(places)
            place.imshow(cut(volume, synapse, row.behind_nm), cmap="gray", vmin=30, vmax=220)
            style_image(place, row.title if k == 0 else "")
    save(figure, f"signature_{signature}")


def draw_styles() -> None:
    """A section and a cut across the sections, in every style."""
    figure, axes = panel_grid(2 * len(PRESETS), len(PRESETS), (1.7, 1.7), above_in=0.22, below_in=0.02)
    for column, name in enumerate(PRESETS):
        config = SimulationConfig.small(seed=3, style={"preset": name}, cutout_section_fraction=0.0)
        em_xyz, (x_nm, _, z_nm) = simulate(config).em_xyz, config.voxel_size_nm
        x, y, z = (
            (size - field) // 2 for size, field in zip(em_xyz.shape, (STYLE_FIELD_VX, STYLE_FIELD_VX, 1), strict=True)
        )
        in_x, in_y = slice(x, x + STYLE_FIELD_VX), slice(y, y + STYLE_FIELD_VX)
        n_sections = round(STYLE_FIELD_VX * x_nm / z_nm)
        in_z = slice(z - n_sections // 2, z - n_sections // 2 + n_sections)
        cuts = (em_xyz[in_x, in_y, z].T, 1.0, f"{name}: a section"), (em_xyz[in_x, y, in_z].T, z_nm / x_nm, "across")
        for row, (cut_yx, aspect, title) in enumerate(cuts):
            place = axes[row * len(PRESETS) + column]
            place.imshow(cut_yx, cmap="gray", vmin=0, vmax=255, aspect=aspect)
            style_image(place, title)
    save(figure, "styles")


if __name__ == "__main__":
    IMAGES.mkdir(parents=True, exist_ok=True)
    for signature in ("darkness", "texture"):
        draw_signature(signature)
    draw_styles()
