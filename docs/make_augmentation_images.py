"""Renew the pictures of docs/augmentation.md: ``python docs/make_augmentation_images.py [SIMULATED] [REAL]``.

The arguments are chunk stores. Every picture has two rows, a simulated and a real synapse, and shows what ``Augmenter``
does with one operation switched on. Both are seen through the same cube: 1024 nm a side, voxels of 16 nm (the published
pitch).
"""

from __future__ import annotations

import argparse
import io
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image

from synapseclr.augmentation import AugmentationConfig, Augmenter, View
from synapseclr.augmentation.operations.cutouts import corner_boxes
from synapseclr.errors import SynapseCLRError
from synapseclr.plotting.sections import draw_section, mask_legend
from synapseclr.plotting.theme import figure_png, new_figure, panel_grid, style_image
from synapseclr.volumes import ChunkStore

if TYPE_CHECKING:
    from matplotlib.figure import Figure

IMAGES = Path(__file__).resolve().parents[1] / "docs/images/augmentation"
STORE = "02_intermediate/synapse_chunks.zarr"
STORES = {"simulated": f"data/{STORE}", "real": f"data/fib25/{STORE}"}
COMMANDS = {
    "simulated": "kedro run --pipelines=simulation,preprocessing",
    "real": "scripts/import_npz_volume.py and kedro run --env=fib25 --pipeline=preprocessing",
}
FIELD_NM, SIZE = 1024, 64
PANEL_IN = 3 * SIZE / 120
PUBLISHED_SECTIONS = 52
COLOURS, NO_DITHER = Image.Quantize.MAXCOVERAGE, Image.Dither.NONE
MAX_SEED, MASKS = 5000, 0.28
KINDS = ("octant", "edge", "face")


@dataclass(frozen=True)
class Synapse:
    """A chunk, shape (1, 2, x, y, z), and its voxel size (x, y, z)."""

    name: str
    chunk_bcxyz: torch.Tensor
    voxel_size_nm: tuple[float, float, float]


@dataclass(frozen=True)
class Panel:
    """A view of each synapse: a named configuration with changes, and the plane, channel and mask opacity to show.

    ``extract`` is taken without the active zone, that is: resampling and z-score only, unless ``changes`` say else. The
    seed is the first from ``seed`` on whose draws are ``wanted``.
    """

    title: str
    changes: dict[str, Any] = field(default_factory=dict)
    plane: str = "xy"
    opacity: float = 0.0
    channel: int = 0
    seed: int = 0
    wanted: Callable[[Any], bool] = lambda draws: True
    method: str = "extract"

    def config(self, synapse: Synapse) -> AugmentationConfig:
        """The configuration for the field of view of the pictures, with the spacing of the store."""
        x_nm, _, z_nm = synapse.voxel_size_nm
        crop = round(FIELD_NM / x_nm)
        rate = 10 * synapse.chunk_bcxyz.shape[-1] / PUBLISHED_SECTIONS  # the published share of sections
        base = getattr(AugmentationConfig, self.method)(axial_to_sagittal_spacing=z_nm / x_nm, cutout_poisson_rate=rate)
        changes = {"enable_active_zone": False} | self.changes if self.method == "extract" else self.changes
        return base.resized(crop, crop if self.method == "display" else SIZE, **changes)

    def view(self, synapse: Synapse) -> View:
        """The view of the first seed whose draws are wanted."""
        augmenter = Augmenter(self.config(synapse))
        for seed in range(self.seed, self.seed + MAX_SEED):
            if self.wanted(augmenter.draw(synapse.chunk_bcxyz, torch.Generator().manual_seed(seed))):
                return augmenter.views(synapse.chunk_bcxyz, 1, torch.Generator().manual_seed(seed))[0]
        raise SynapseCLRError(f"no seed gives the draws that the panel {self.title!r} wants; widen its condition")


def read_synapse(name: str, path: Path) -> Synapse:
    """Choose the synapse of a store that shows best: nothing beyond the volume, a large cleft, two large partners."""
    if not path.exists():
        raise SynapseCLRError(f"there is no chunk store of the {name} volume at {path}; run {COMMANDS[name]}")
    store = ChunkStore(str(path))
    filled, shown = [], []
    for chunk_ncxyz in store.iterate(64):
        filled.append((chunk_ncxyz[:, 0] > 0).mean(axis=(1, 2, 3)))
        x, y, z = (slice(length // 4, 3 * length // 4) for length in chunk_ncxyz.shape[2:])
        pre_n, cleft_n, post_n = ((chunk_ncxyz[:, 1, x, y, z] == code).mean(axis=(1, 2, 3)) for code in (1, 2, 3))
        shown.append(cleft_n * np.minimum(pre_n, post_n))
    filled_n, shown_n = np.concatenate(filled), np.concatenate(shown)
    index = int(np.argmax(np.where(filled_n >= 0.999 * filled_n.max(), shown_n, -1.0)))
    print(f"{name}: synapse {store.synapse_id[index]} of {path}, {filled_n[index]:.1%} of its voxels are not black")
    return Synapse(name, torch.from_numpy(store.read([index])), store.voxel_size_nm)


def as_chunk(view: View, config: AugmentationConfig, channel: int) -> np.ndarray:
    """A view as uint8 (2, x, y, z) on the grey scale of the chunk: the z-score undone."""
    raw_xyz = view.intensity_bcxyz[0, channel] * config.intensity_std + config.intensity_mean
    code_xyz = (view.mask_bcxyz[0] * torch.tensor([1, 2, 3])[:, None, None, None]).sum(0)
    return torch.stack([(raw_xyz * 255).round().clamp(0, 255), code_xyz]).to(torch.uint8).numpy()


def save(figure: Figure, name: str, coloured: bool = False) -> None:
    """Write a figure as a PNG of 256 greys or 256 colours."""
    with Image.open(io.BytesIO(figure_png(figure))) as opened:
        picture = opened.convert("RGB").quantize(256, COLOURS, dither=NO_DITHER) if coloured else opened.convert("L")
    picture.save(IMAGES / f"{name}.png", optimize=True)


def draw_picture(name: str, panels: list[Panel], synapses: list[Synapse]) -> None:
    """A row per synapse, a column per panel: the central section, or the central xz cut."""
    masked = any(panel.opacity for panel in panels)
    foot_in = 0.32 if masked else 0.06
    figure, axes = panel_grid(2 * len(panels), len(panels), (PANEL_IN,) * 2, above_in=0.24, foot_in=foot_in)
    places = iter(axes)
    for synapse in synapses:
        for panel in panels:
            first, place = panel is panels[0], next(places)
            chunk_cxyz = as_chunk(panel.view(synapse), panel.config(synapse), panel.channel)
            if panel.plane == "xz":
                chunk_cxyz = chunk_cxyz.transpose(0, 1, 3, 2)
            pitch_nm, middle = FIELD_NM / chunk_cxyz.shape[1], chunk_cxyz.shape[3] // 2
            draw_section(place, chunk_cxyz, (pitch_nm,) * 3, middle, panel.opacity, scale_bar=first)
            place.set_title(f"{synapse.name}: {panel.title}" if first else panel.title, loc="left", fontsize=7.5, pad=3)
    if masked:
        mask_legend(figure)
    save(figure, name, masked)


def draw_z_score(name: str, panels: list[Panel], synapses: list[Synapse]) -> None:
    """Like ``draw_picture``, with the numbers that the greys stand for."""
    figure = new_figure(7.6, 4.3)
    for row, synapse in zip(figure.subplots(2, len(panels)), synapses, strict=True):
        for place, panel in zip(row, panels, strict=True):
            config, intensity_bcxyz = panel.config(synapse), panel.view(synapse).intensity_bcxyz
            low, high = ((end - config.intensity_mean) / config.intensity_std for end in (0, 1))
            drawn = place.imshow(intensity_bcxyz[0, 0, :, :, SIZE // 2].T.numpy(), cmap="gray", vmin=low, vmax=high)
            style_image(place, f"{synapse.name}: {panel.title}" if panel is panels[0] else panel.title)
            bar = figure.colorbar(drawn, ax=place, ticks=sorted({low, 0.0, high}), format="%.2f", shrink=0.8)
            bar.ax.tick_params(labelsize=7)
    save(figure, name)


def corner(kind: int) -> Callable[[Any], bool]:
    """Whether the corner box is of this kind (index into ``KINDS``) and shows in the central section."""
    low_ji, high_ji = corner_boxes(SIZE)

    def wanted(draws: Any) -> bool:
        low_i, high_i = (ends[int(draws["corner_cutout"][0])] for ends in (low_ji, high_ji))
        middle_i = low_i == SIZE // 4
        return bool(low_i[2] <= SIZE // 2 < high_i[2]) and not bool(middle_i[:2].all()) and int(middle_i.sum()) == kind

    return wanted


def flip(axis: str, plane: str = "xy") -> Panel:
    """A panel of one flip."""
    return Panel(
        f"{axis} flip, {plane}", {f"enable_{axis}_flip": True}, plane, wanted=lambda draws: draws["flips"].flip_ni.any()
    )


def fixed(title: str, switch: str, **values: float) -> Panel:
    """A panel of one intensity operation, its ranges narrowed to single values."""
    ends = {f"global_{name}_{end}": value for name, value in values.items() for end in ("min", "max")}
    return Panel(title, {f"enable_{switch}": True} | ends)


def far(draws: Any) -> bool:
    """Whether the displacement is large in the plane."""
    return bool((draws["displacement"][0, :2].abs() > 0.12).all())


def near(value: float, measure: Callable[[Any], torch.Tensor]) -> Callable[[Any], bool]:
    """Whether a measure of the draws is the given value, within 0.005."""
    return lambda draws: bool(((measure(draws) - value).abs() < 0.005).all())


def uncut(draws: Any) -> bool:
    """Whether no section and no periphery is cut."""
    return not bool(draws["section_cutout"].any() | draws["periphery_cutout"].apply_n.any())


BEFORE, BEFORE_XZ, MASKED = Panel("before, xy"), Panel("before, xz", plane="xz"), Panel("before, xy", opacity=MASKS)
NAMES = ("section_cutout", "gaussian_blur", "corner_cutout", "random_cutout", "random_periphery_cutout")
SECTIONS, BLUR, CORNER, BOXES, PERIPHERY = ({f"enable_{name}": True, f"{name}_prob": 1.0} for name in NAMES)
TONES, HOLES = {"enable_sectional_intensity": True}, {"enable_swiss_cheese": True}
SHIFT, TURN, ZONE = {"enable_displacement": True}, {"enable_rotation": True}, {"enable_active_zone": True}
SEPARATE = ZONE | {"channel_organization": "separate"}
BOTH = Panel("rotation, displacement", SHIFT | TURN, seed=20, wanted=far)
HOLE, KEPT = (
    (lambda draws: draws["swiss_cheese"].fraction_n),
    (lambda draws: draws["periphery_cutout"].high_ni - draws["periphery_cutout"].low_ni),
)
SWAP = Panel("xy swap", {"enable_xy_swap": True}, wanted=lambda draws: draws["flips"].swap_n.any())
MERGED = [Panel(f"merged, radius {n}", ZONE | {"active_zone_inflation_radii": (n,)}) for n in (0, 6)]
SIDES = [Panel("separate: pre side", SEPARATE), Panel("separate: post side", SEPARATE, channel=1)]
DARK = fixed("darkest", "global_intensity", intensity_intercept=-0.05, intensity_slope=0.9, intensity_gamma=1.1)
BRIGHT = fixed("brightest", "global_intensity", intensity_intercept=0.05, intensity_slope=1.1, intensity_gamma=0.9)
SCALES = {"lognormal, scale 0.05": (0.0, 0.05), "Gaussian, scale 0.05": (0.05, 0.0), "both": (0.05, 0.05)}
NOISE = ("additive_gaussian_noise_scale", "multiplicative_lognormal_noise_scale")
NOISES = [fixed(title, "pixel_noise", **dict(zip(NOISE, pair, strict=True))) for title, pair in SCALES.items()]

PICTURES: dict[str, list[Panel]] = {
    "01_section_cutout": [BEFORE_XZ]
    + [Panel(f"background: {name}", SECTIONS | {"background": name}, "xz", seed=3) for name in ("black", "mean")],
    "02_sectional_intensity": [BEFORE_XZ] + [Panel(f"after, seed {n}", TONES, "xz", seed=n) for n in (0, 1)],
    "03_global_intensity": [BEFORE, DARK, BRIGHT],
    "04_pixel_noise": [BEFORE, *NOISES],
    "05_affine": [BEFORE, Panel("displacement", SHIFT, wanted=far), Panel("rotation", TURN), BOTH],
    "06_gaussian_blur": [BEFORE]
    + [Panel(f"sigma {n} voxels", BLUR | {"gaussian_blur_sigmas": (n,)}) for n in (0.25, 0.5, 0.75)],
    "07_ball_holes": [MASKED]
    + [Panel(f"volume fraction {n}", HOLES, opacity=MASKS, wanted=near(n, HOLE)) for n in (0.1, 0.2, 0.3)],
    "08_corner_cutout": [MASKED]
    + [Panel(f"{name} box", CORNER, "xy", MASKS, 0, 3 * n, corner(n)) for n, name in enumerate(KINDS)],
    "09_random_cutout": [MASKED] + [Panel(f"after, seed {n}", BOXES, opacity=MASKS, seed=n) for n in (50, 88, 295)],
    "10_periphery_cutout": [MASKED]
    + [Panel(f"kept: {n} of {SIZE} voxels", PERIPHERY, opacity=MASKS, wanted=near(n, KEPT)) for n in (32, 40, 46)],
    "11_flips": [BEFORE, flip("x"), flip("y"), SWAP, BEFORE_XZ, flip("z", "xz")],
    "12_active_zone": [MASKED, *MERGED, *SIDES],
    "overview_so3": [Panel(f"seed {n}", method="so3", seed=n) for n in range(8)],
    "overview_configurations": [Panel("display", method="display"), Panel("extract", ZONE)]
    + [Panel(name, method=name, seed=n, wanted=uncut) for name in ("dihedral", "so3") for n in (0, 50)],
}
Z_SCORE = [Panel("before", ZONE | {"intensity_mean": 0.0, "intensity_std": 1.0})]
Z_SCORE += [Panel("after", ZONE), Panel("after, background: mean", ZONE | {"background": "mean"})]

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    for name, store in STORES.items():
        parser.add_argument(name, type=Path, nargs="?", default=Path(store), help=f"chunk store, by default {store}")
    try:
        synapses = [read_synapse(name, path) for name, path in vars(parser.parse_args()).items()]
        IMAGES.mkdir(parents=True, exist_ok=True)
        for name, panels in PICTURES.items():
            draw_picture(name, panels, synapses)
        draw_z_score("13_z_score", Z_SCORE, synapses)
    except SynapseCLRError as error:
        sys.exit(f"make_augmentation_images: {error}")
