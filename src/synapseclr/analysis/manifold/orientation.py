"""The orientation of every synapse's cleft: what an encoder trained under rotations should not know."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import pandas as pd

from synapseclr.analysis.handcrafted.cleft_plane import cleft_plane
from synapseclr.analysis.handcrafted.image_statistics import ReadableChunks
from synapseclr.volumes.synapse_ids import positions_in_store

ORIENTATION_COLUMNS = ("synapse_id", "normal_x", "normal_y", "normal_z", "tilt_deg", "azimuth_deg", "n_cleft_voxels")


class OrientedChunks(ReadableChunks, Protocol):
    """What is needed of a chunk store."""

    @property
    def synapse_id(self) -> np.ndarray:
        """Ids, int64 (n,), in store order."""
        ...

    @property
    def voxel_size_nm(self) -> tuple[float, float, float]:
        """Voxel size (x, y, z)."""
        ...


def cleft_orientations(
    store: OrientedChunks, synapse_id: np.ndarray, max_synapses: int | None = None, seed: int = 0
) -> pd.DataFrame:
    """Fit the cleft's plane of many synapses, read one by one.

    Args:
        store: The chunk store.
        synapse_id: int64 (n,): synapses wanted.
        max_synapses: Beyond this number, as many are drawn at random.
        seed: Seed of the draw.

    Returns:
        One row per synapse in the order given: the unit normal towards the presynaptic side; ``tilt_deg``, the angle
        between cleft and sections (0: face on, 90: cut across); ``azimuth_deg``, the normal's direction within the
        sections, in [0, 180); ``n_cleft_voxels``. NaN where the cleft is not a sheet.

    Raises:
        TableError: If a synapse has no chunk.
    """
    wanted_id = np.asarray(synapse_id)
    if max_synapses is not None and len(wanted_id) > max_synapses:
        chosen = np.random.default_rng(seed).choice(len(wanted_id), max_synapses, replace=False)
        wanted_id = wanted_id[np.sort(chosen)]
    rows_k = positions_in_store(wanted_id, store.synapse_id)
    normals_k3 = np.full((len(rows_k), 3), np.nan)
    n_voxels_k = np.zeros(len(rows_k), np.int64)
    for place, row in enumerate(rows_k):
        plane = cleft_plane(store.read([int(row)])[0, 1], store.voxel_size_nm)
        n_voxels_k[place] = plane.n_voxels
        if plane.is_defined:
            normals_k3[place] = plane.normal_xyz
    tilt_k = np.degrees(np.arccos(np.clip(np.abs(normals_k3[:, 2]), 0.0, 1.0)))
    azimuth_k = np.degrees(np.arctan2(normals_k3[:, 1], normals_k3[:, 0])) % 180.0
    columns = (wanted_id, *normals_k3.T, tilt_k, azimuth_k, n_voxels_k)
    return pd.DataFrame(dict(zip(ORIENTATION_COLUMNS, columns, strict=True)))
