"""Images: grey levels of the tissue, sections as a microscope records them, and defects of image and segmentation."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numba import njit
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from synapseclr.simulation.config import ImagingStyle
from synapseclr.simulation.geometry import EXCITATORY, Floats, Neurite, Site, ball, window_around
from synapseclr.simulation.territory import Territory, border_distance

CYTOPLASM_GREY = 158.0
REMAINDER_GREY = 172.0
MEMBRANE_DARKNESS = 92.0
TEXTURE_WIDTH_NM = 17.6
GRAIN_TILE_VX = 128
GRAIN_SD = 14.0
# Gaussian width of the grain in the cytoplasm of excitatory and of inhibitory dendrites.
FINE_GRAIN_NM, COARSE_GRAIN_NM = 20.0, 55.0
# Fine grain of inhibitory axons: it gives evenly spread vesicles the variance that clumps have.
AXON_GRAIN_SD = 8.5
DEFECTS = ("merged_segmentation", "missing_segmentation", "misplaced_cleft", "blackout")
# Least distance of a defect, nm, to the next synapse that stays sound.
CLEARANCE_NM = {"missing_segmentation": 800.0, "blackout": 600.0}


def paint_cytoplasm(
    territory: Territory, n_neurites: int, style: ImagingStyle, rng: np.random.Generator
) -> NDArray[np.float32]:
    """Draw cytoplasm in each neurite's own tone, and membranes along all borders.

    Args:
        territory: Who owns each voxel.
        n_neurites: Number of neurites.
        style: Stain and width of the membranes.
        rng: Source of randomness; the tone is independent of kind and cell type.

    Returns:
        Image in grey levels, shape (z, y, x).
    """
    tone = np.concatenate([[REMAINDER_GREY], CYTOPLASM_GREY + rng.normal(0, 8, n_neurites)]).astype(np.float32)
    image_zyx = np.empty(territory.owner_zyx.shape, np.float32)
    darkness = MEMBRANE_DARKNESS * style.membrane_stain
    _cytoplasm(*territory.volumes, tone, image_zyx, darkness, style.membrane_width_nm)
    return image_zyx


@njit(cache=True)
def _cytoplasm(owner, second, depth, second_depth, tone, image, darkness, width_nm):
    nz, ny, nx = owner.shape
    for z in range(nz):
        for y in range(ny):
            for x in range(nx):
                o = owner[z, y, x]
                grey = tone[o]
                gap = border_distance(depth[z, y, x], second_depth[z, y, x], o, second[z, y, x])
                if gap < 3.2 * width_nm:
                    grey -= np.float32(darkness * np.exp(-((gap / width_nm) ** 2)))
                image[z, y, x] = grey


def paint_grain(
    territory: Territory,
    neurites: list[Neurite],
    blur_nm: float,
    image_zyx: NDArray[np.float32],
    rng: np.random.Generator,
) -> None:
    """Give cytoplasm a grain that tells cell types of equal mean and variance apart, in place.

    Dendrites are fine-grained where excitatory and coarse-grained where inhibitory. Inhibitory axons get a weak fine
    grain, excitatory ones none: their vesicles come in clumps, which vary more.

    Args:
        territory: Who owns each voxel.
        neurites: Dendrites and axons, indexed from 1; others have no grain.
        blur_nm: Blur that sections will have.
        image_zyx: Image in grey levels; changed in place.
        rng: Source of randomness.
    """
    fine, coarse = (_grain_tile(width_nm, blur_nm, territory, rng) for width_nm in (FINE_GRAIN_NM, COARSE_GRAIN_NM))
    is_inhibitory = np.array([False] + [neurite.cell_type != EXCITATORY for neurite in neurites])
    is_dendrite = np.array([False] + [neurite.kind == "dendrite" for neurite in neurites])
    sd = np.where(is_dendrite, GRAIN_SD, np.where(is_inhibitory, AXON_GRAIN_SD, 0.0)).astype(np.float32)
    _grain(territory.owner_zyx, sd, is_dendrite & is_inhibitory, fine, coarse, image_zyx)


def _grain_tile(width_nm: float, blur_nm: float, territory: Territory, rng: np.random.Generator) -> NDArray[np.float32]:
    """Periodic noise, smooth over a width, whose variance is 1 once a section is blurred."""
    noise = rng.standard_normal((GRAIN_TILE_VX // 2, GRAIN_TILE_VX, GRAIN_TILE_VX))
    tile = gaussian_filter(noise, width_nm / territory.voxel_size_nm[::-1], mode="wrap")
    blurred = gaussian_filter(tile, (0, *(blur_nm / territory.voxel_size_nm[1::-1])), mode="wrap")
    return (tile / blurred.std()).astype(np.float32)


@njit(cache=True)
def _grain(owner, sd, is_coarse, fine, coarse, image):
    nz, ny, nx = owner.shape
    tz, ty, tx = fine.shape
    for z in range(nz):
        for y in range(ny):
            for x in range(nx):
                o = owner[z, y, x]
                if o <= 0 or o >= sd.shape[0] or sd[o] == 0:
                    continue
                # Each neurite reads the periodic grain from another corner.
                place = (z + 47 * o + 3) % tz, (y + 13 * o + 7) % ty, (x + 29 * o) % tx
                image[z, y, x] += sd[o] * (coarse[place] if is_coarse[o] else fine[place])


def expose_sections(
    image_zyx: NDArray[np.float32],
    style: ImagingStyle,
    voxel_size_nm: tuple[float, float, float],
    rng: np.random.Generator,
    progress: Callable[[str, float], None] | None = None,
) -> NDArray[np.uint8]:
    """Turn ideal grey levels into sections with texture, blur, a contrast of their own, and pixel noise.

    Args:
        image_zyx: Ideal grey levels, shape (z, y, x).
        style: Contrast, brightness, blur, texture, noise, and what changes from section to section.
        voxel_size_nm: Voxel size (x, y, z) in nm.
        rng: Source of randomness.
        progress: Called with a stage name and the share done.

    Returns:
        Grey levels 1 to 255, uint8; 0 is kept for missing data. Shape (z, y, x).
    """
    em_zyx = np.empty(image_zyx.shape, np.uint8)
    texture_yx_vx, blur_yx_vx = (
        width_nm / np.array(voxel_size_nm)[1::-1] for width_nm in (TEXTURE_WIDTH_NM, style.blur_nm)
    )
    scale = 2 * np.sqrt(np.pi) * np.sqrt(texture_yx_vx.prod())
    for z, section in enumerate(image_zyx):
        grain = rng.standard_normal(section.shape, np.float32)
        texture = gaussian_filter(grain, texture_yx_vx) * scale
        picture = gaussian_filter(section + np.float32(style.texture_sd) * texture, blur_yx_vx)
        gain = style.contrast * np.exp(rng.normal(0, style.section_gain_sd))
        offset = style.brightness + rng.normal(0, style.section_offset_sd)
        picture = (picture - 128.0) * np.float32(gain) + np.float32(128.0 + offset)
        picture += np.float32(style.pixel_noise_sd) * rng.standard_normal(section.shape, np.float32)
        em_zyx[z] = np.clip(picture, 1, 255).astype(np.uint8)
        if progress is not None and z % 10 == 0:
            progress("expose sections", (z + 1) / len(image_zyx))
    return em_zyx


def cut_out_sections(em_zyx: NDArray[np.uint8], fraction: float, rng: np.random.Generator) -> None:
    """Blacken rectangles in some sections, and a quarter of those sections wholly, in place."""
    n_sections, ny, nx = em_zyx.shape
    for z in np.flatnonzero(rng.uniform(size=n_sections) < fraction):
        if rng.uniform() < 0.25:
            em_zyx[z] = 0
            continue
        height, width = (int(edge * rng.uniform(0.15, 0.5)) for edge in (ny, nx))
        y, x = int(rng.integers(0, ny - height)), int(rng.integers(0, nx - width))
        em_zyx[z, y : y + height, x : x + width] = 0


def draw_defects(sites: list[Site], fraction: float, rng: np.random.Generator) -> list[str]:
    """Choose which synapses are defective, and how, the kinds in turn.

    Args:
        sites: The synapses.
        fraction: Share of defective ones; fewer when too few stand apart from their neighbours.
        rng: Source of randomness.

    Returns:
        One of `DEFECTS` or an empty string per synapse.
    """
    defects = [""] * len(sites)
    kinds = [DEFECTS[k] for k in rng.permutation(len(DEFECTS))]
    centres = np.array([site.centre_nm for site in sites]).reshape(-1, 3)
    dendrite = np.array([site.dendrite for site in sites])
    queue = [int(k) for k in rng.permutation(len(sites))]
    for turn in range(round(fraction * len(sites))):
        kind = kinds[turn % len(kinds)]
        for k in queue:
            distance = np.linalg.norm(centres - centres[k], axis=1)
            distance[k] = np.inf
            if kind == "missing_segmentation":
                distance[dendrite != dendrite[k]] = np.inf
            if distance.min() > CLEARANCE_NM.get(kind, 0.0):
                defects[k] = kind
                queue.remove(k)
                break
    return defects


def apply_defect(
    defect: str,
    site: Site,
    label: int,
    em_zyx: NDArray[np.uint8],
    segment_zyx: NDArray[np.int16],
    cleft_zyx: NDArray[np.int32],
    voxel_size_nm: Floats,
    rng: np.random.Generator,
    spared: list[int] | None = None,
) -> None:
    """Spoil the data around one synapse, in place.

    Args:
        defect: One of `DEFECTS`.
        site: The synapse.
        label: Its label in the cleft volume.
        em_zyx: Image; `blackout` zeroes a box of four to seven sections.
        segment_zyx: Segmentation; `merged_segmentation` lets the presynaptic neurite swallow its neighbours in a ball,
            `missing_segmentation` clears the postsynaptic neurite in a ball.
        cleft_zyx: Cleft labels; `misplaced_cleft` shifts this label by about 250 nm.
        voxel_size_nm: Voxel size (x, y, z) in nm.
        rng: Source of randomness.
        spared: Neurites that `merged_segmentation` leaves alone, because other synapses nearby need them.

    Raises:
        ValueError: If the defect is unknown.
    """
    if defect == "merged_segmentation":
        window, inside = ball(site.bouton_nm, rng.uniform(450, 600), segment_zyx.shape, voxel_size_nm)
        local = segment_zyx[window]
        swallowed = inside & (local > 0) & ~np.isin(local, [site.dendrite, *(spared or [])])
        local[swallowed] = site.axon
    elif defect == "missing_segmentation":
        middle = site.centre_nm + 150 * site.normal
        window, inside = ball(middle, rng.uniform(380, 500), segment_zyx.shape, voxel_size_nm)
        local = segment_zyx[window]
        local[inside & (local == site.dendrite)] = 0
    elif defect == "misplaced_cleft":
        where = _find(label, site, cleft_zyx, voxel_size_nm)
        sideways = rng.choice([-1.0, 1.0]) * site.normal + 0.4 * rng.normal(size=3)
        shift_nm = 250.0 * sideways / np.linalg.norm(sideways)
        moved = where + np.round(shift_nm / voxel_size_nm).astype(int)[::-1]
        cleft_zyx[tuple(where.T)] = 0
        moved = moved[np.all((moved >= 0) & (moved < cleft_zyx.shape), axis=1)]
        moved = moved[cleft_zyx[tuple(moved.T)] == 0]
        cleft_zyx[tuple(moved.T)] = label
    elif defect == "blackout":
        half_nm = np.array([rng.uniform(260, 380), rng.uniform(260, 380), rng.uniform(80, 140)])
        em_zyx[window_around(site.centre_nm, half_nm, em_zyx.shape, voxel_size_nm)] = 0
    else:
        raise ValueError(f"unknown defect {defect!r}; expected one of {', '.join(DEFECTS)}")


def _find(label: int, site: Site, cleft_zyx: NDArray[np.int32], voxel_size_nm: Floats) -> NDArray[np.int64]:
    """Voxels of one cleft label, searched near its site only."""
    window = window_around(site.centre_nm, np.full(3, 600.0), cleft_zyx.shape, voxel_size_nm)
    return np.argwhere(cleft_zyx[window] == label) + [part.start for part in window]


def neighbours(site: Site, sites: list[Site], within_nm: float = 1000.0) -> list[int]:
    """Partners of all other synapses near a site, by neurite index."""
    near = [
        other for other in sites if np.linalg.norm(other.centre_nm - site.bouton_nm) < within_nm and other is not site
    ]
    return [index for other in near for index in (other.axon, other.dendrite)]
