"""Likely causes when root ids or positions of a table do not fit the volumes."""

from __future__ import annotations

from collections.abc import Callable
from itertools import permutations
from typing import TYPE_CHECKING

import numpy as np

from synapseclr.volumes.cutting.plan import centres_vx
from synapseclr.volumes.tables import POSITION_COLUMNS

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

    from synapseclr.volumes.config import PreprocessingConfig

_LAYER_SHIFT = 56  # of a chunked graph's ids, the highest byte is the layer: 1 for supervoxels, more for what they form
_EXACT_BELOW = 2**53
_LEAST_INSIDE, _LEAST_FITTING = 0.75, 0.5
_CLEARLY_BETTER = 0.3
_MOST_TRIED = 8

Score = Callable[["NDArray[np.int64]"], float]


def diagnose_ids(table_ids: NDArray[np.int64], ids_near: NDArray[np.uint64]) -> str:
    """Say why no root id of a table occurs near its synapses.

    Args:
        table_ids: Root ids of the sampled synapses, without 0.
        ids_near: Distinct ids of the segmentation around these synapses, without 0.

    Returns:
        The likeliest cause, with one id of each.
    """
    if not len(ids_near):
        return (
            "The segmentation holds background only around these synapses: most likely the path in the catalog is "
            "beside the real one, or the positions have another unit or axis order."
        )
    seen = f"the table has {table_ids[0]}, the segmentation {ids_near[0]} there"
    layer_of_table, layer_near = np.median(table_ids >> _LAYER_SHIFT), np.median(ids_near >> np.uint64(_LAYER_SHIFT))
    if layer_near == 1 and layer_of_table > 1:
        return (
            f"Most likely the segmentation holds supervoxels, which are not agglomerated ({seen}): the highest byte of "
            "a chunked graph's ids is 1 for supervoxels. Flatten it at the table's timestamp (docs/data.md, "
            "'Agglomerated segmentations')."
        )
    is_rounded = (table_ids > _EXACT_BELOW) & (np.array([int(float(i)) == i for i in table_ids.tolist()]))
    if is_rounded.all():
        return (
            f"Most likely the table's ids were rounded by a spreadsheet or by a float column ({seen}): all of them are "
            "numbers that a double-precision float holds exactly. Export the table again, with ids as text or integers."
        )
    return (
        f"Most likely the table is of another version of the segmentation ({seen}). Take table and segmentation of "
        "one version, or look the root ids up again at the segmentation's timestamp."
    )


def diagnose_positions(
    synapses: pd.DataFrame,
    config: PreprocessingConfig,
    is_inside: Score,
    fit: Score,
    corner_vx: NDArray[np.int64] | None = None,
) -> str | None:
    """Look for a unit, an axis order or an origin with which positions fit the volumes.

    Args:
        synapses: Some rows of the synapse table.
        config: Its unit and the chunks' resolution.
        is_inside: Share of centres (n, 3) that lie in the volume; costs nothing.
        fit: Share of centres that have a cleft and their neurites nearby; reads the volumes.
        corner_vx: First voxel (3,) of the EM volume, of which positions in a cut-out may not know; none by default.

    Returns:
        The setting that fits clearly better than the present one, in a sentence; None if there is none.
    """
    unit_nm = config.position_unit_nm
    tried: list[tuple[float, str, NDArray[np.int64]]] = []
    for other_nm in _units(config.voxel_size_nm):
        if other_nm != tuple(unit_nm):
            listed = ", ".join(f"{v:g}" for v in other_nm)
            text = f"the positions are in units of {' x '.join(f'{v:g}' for v in other_nm)} nm: set "
            text += f"preprocessing.position_voxel_size_nm to [{listed}]"
            centre_vx = centres_vx(synapses, other_nm, config)
            tried.append((is_inside(centre_vx), text, centre_vx))
    for order in list(permutations(range(3)))[1:]:
        swapped = synapses.copy()
        swapped[POSITION_COLUMNS] = synapses[[POSITION_COLUMNS[axis] for axis in order]].to_numpy()
        text = f"the axes are in another order: {', '.join(POSITION_COLUMNS)} hold " + ", ".join(
            "xyz"[order.index(axis)] for axis in range(3)
        )
        centre_vx = centres_vx(swapped, unit_nm, config)
        tried.append((is_inside(centre_vx), text, centre_vx))
    tried = [entry for entry in sorted(tried, key=lambda entry: -entry[0]) if entry[0] >= _LEAST_INSIDE][:_MOST_TRIED]
    if corner_vx is not None and np.any(corner_vx):
        tried += [
            entry for entry in _other_origins(synapses, config, is_inside, corner_vx) if entry[0] >= _LEAST_INSIDE
        ]
    present = fit(centres_vx(synapses, unit_nm, config))
    scored = [(fit(centre_vx), text) for _, text, centre_vx in tried]
    best, best_text = max(scored, key=lambda entry: entry[0], default=(0.0, ""))
    if best < max(_LEAST_FITTING, present + _CLEARLY_BETTER):
        return None
    return (
        f"Most likely {best_text}. So read, {100 * best:.0f} % of {len(synapses)} synapses tried have a cleft and "
        f"their neurites where they should be, against {100 * present:.0f} % now."
    )


def _other_origins(
    synapses: pd.DataFrame, config: PreprocessingConfig, is_inside: Score, corner_vx: NDArray[np.int64]
) -> list[tuple[float, str, NDArray[np.int64]]]:
    """Positions counted from the volume's own corner, and positions that the corner was added to once too often."""
    centre_vx = centres_vx(synapses, config.position_unit_nm, config)
    unit = np.round(corner_vx * np.asarray(config.voxel_size_nm) / np.asarray(config.position_unit_nm)).astype(int)
    corner = ", ".join(map(str, corner_vx.tolist()))
    shift = ", ".join(map(str, unit.tolist()))
    found = []
    for moved_vx, origin, advice in (
        (centre_vx + corner_vx, "are counted from the corner of the volume", "add ({}) to"),
        (centre_vx - corner_vx, "have the corner of the volume added once too often", "subtract ({}) from"),
    ):
        text = f"the positions {origin}, whose first voxel is ({corner}): {advice.format(shift)} x, y, z of the table"
        found.append((is_inside(moved_vx), text, moved_vx))
    return found


def _units(voxel_size_nm: tuple[float, float, float]) -> list[tuple[float, float, float]]:
    """Units in which positions come: voxels of finer and coarser scales, nm, micrometres."""
    x, y, z = voxel_size_nm
    in_plane = [(x * f, y * f, z) for f in (1, 1 / 2, 1 / 4, 1 / 8, 2, 4)]
    isotropic = [(x * f, y * f, z * f) for f in (1 / 2, 1 / 4, 2, 4)]
    return [*in_plane, (1.0, 1.0, 1.0), (1000.0, 1000.0, 1000.0), *isotropic]
