"""The presynaptic side of a synapse, where a table of two neurites does not tell it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from synapseclr.volumes.cutting import centres_vx, points_vx
from synapseclr.volumes.layers.resampling import open_on_grid
from synapseclr.volumes.painted_clefts import paint_cleft
from synapseclr.volumes.synapse_table import PRESYNAPTIC

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

    from synapseclr.volumes.config import PreprocessingConfig
    from synapseclr.volumes.layers.layer import VolumeLayer


def find_sides(
    segmentation: VolumeLayer,
    vesicles: VolumeLayer,
    synapses: pd.DataFrame,
    config: PreprocessingConfig,
    radius_nm: float = 300.0,
) -> pd.DataFrame:
    """Take the neurite with more vesicle voxels near the contact of the two for the presynaptic one.

    Args:
        segmentation: Root ids.
        vesicles: A mask of vesicles: labels other than 0.
        synapses: As :func:`synapseclr.volumes.synapse_table.check_synapse_table` returns it.
        config: Voxel size, unit of the positions and reach of the contact.
        radius_nm: Distance from the contact within which vesicles count.

    Returns:
        The table with ``presynaptic_root_id`` (0 where neither has more, or they do not touch), and the numbers of
        vesicle voxels ``n_vesicle_voxels_{first,second}`` in the neurites of ``pre_root_id`` and ``post_root_id``.

    Raises:
        VolumeError: If a volume cannot be opened or read.
    """
    layers = [
        open_on_grid(layer, config.voxel_size_nm, config.max_resampling, holds_ids=True)
        for layer in (segmentation, vesicles)
    ]
    unit_nm = np.asarray(config.voxel_size_nm)
    half_vx = np.ceil((radius_nm + config.max_cleft_distance_nm) / unit_nm).astype(np.int64)
    centre_n3 = centres_vx(synapses, config.position_unit_nm, config)
    point_n23 = points_vx(synapses, config)
    roots = [synapses[name].to_numpy() for name in ("pre_root_id", "post_root_id")]
    counts_n2 = np.zeros((len(synapses), 2), np.int64)
    for row, centre_vx in enumerate(centre_n3):
        lower_vx = centre_vx - half_vx
        ids_xyz, vesicle_xyz = (layer.read(lower_vx, 2 * half_vx + 1) for layer in layers)
        masks = [(ids_xyz == int(root_id_n[row])) & (root_id_n[row] != 0) for root_id_n in roots]
        points = np.stack([centre_vx] * 2) if point_n23 is None else point_n23[row]
        counts_n2[row] = _vesicles_at_contact(masks, vesicle_xyz != 0, points - lower_vx, config, radius_nm)
    first_n, second_n = counts_n2.T
    presynaptic_n = np.where(first_n > second_n, roots[0], np.where(second_n > first_n, roots[1], 0))
    return synapses.assign(
        **{
            PRESYNAPTIC: presynaptic_n.astype(roots[0].dtype),
            "n_vesicle_voxels_first": first_n,
            "n_vesicle_voxels_second": second_n,
        }
    )


def positions_in_nm(synapses: pd.DataFrame, unit_nm: Sequence[float]) -> pd.DataFrame:
    """Write positions in nm, so that the table can take the place of one whose positions had another unit.

    Args:
        synapses: A checked synapse table, with positions in voxels.
        unit_nm: Size of these voxels (x, y, z).
    """
    in_vx = {f"{stem}_{axis}_vx": d for stem in ("ctr_pos", "pre_pos", "post_pos") for d, axis in enumerate("xyz")}
    found = [name for name in in_vx if name in synapses]
    scaled = synapses.assign(**{name: synapses[name] * unit_nm[in_vx[name]] for name in found})
    return scaled.rename(columns={name: name.removesuffix("vx") + "nm" for name in found})


def _vesicles_at_contact(
    masks: Sequence[NDArray[np.bool_]],
    is_vesicle_xyz: NDArray[np.bool_],
    points_vx: NDArray[np.float64],
    config: PreprocessingConfig,
    radius_nm: float,
) -> tuple[int, int]:
    """Numbers of vesicle voxels in each of two segments near the middle of their contact."""
    first, second = masks
    unit_nm = config.voxel_size_nm
    lengths_nm = config.cleft_thickness_nm, config.cleft_radius_nm
    places_n3 = np.argwhere(paint_cleft(first, second, points_vx[0], points_vx[1], unit_nm, *lengths_nm))
    if not len(places_n3):
        return 0, 0
    middle = places_n3.mean(axis=0)
    offsets = [(np.arange(n) - m) * size for n, m, size in zip(first.shape, middle, unit_nm, strict=True)]
    x, y, z = np.ix_(*offsets)
    is_counted = is_vesicle_xyz & (x**2 + y**2 + z**2 <= radius_nm**2)
    return int((is_counted & first).sum()), int((is_counted & second).sum())
