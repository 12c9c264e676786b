"""Measurements on a chunk itself, without learning: grey levels, masks, the plane of the cleft."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol

import numpy as np
import pandas as pd

from synapseclr.volumes.synapse_table import positions_in_store
from synapseclr.volumes.table_schema import (
    COUNT,
    NOT_NEGATIVE,
    SHARE,
    Column,
    TableSchema,
)

CHUNK_STATISTICS = TableSchema(
    "The table of chunk statistics",
    {
        "synapse_id": Column("id", unique=True),
        "intensity_mean": Column(),
        "intensity_variance": NOT_NEGATIVE,
        **{f"{name}_fraction": SHARE for name in ("pre_synaptic", "synaptic_cleft", "post_synaptic")},
    },
    key="synapse_id",
    may_be_empty=False,
)

HISTOGRAM_BINS = 16
_MASK_CODES = {"pre_synaptic": 1, "synaptic_cleft": 2, "post_synaptic": 3}

STATISTIC_NAMES: tuple[str, ...] = (
    "intensity_mean",
    "intensity_variance",
    *(f"intensity_histogram_{index:02d}" for index in range(HISTOGRAM_BINS)),
    *(f"{name}_fraction" for name in _MASK_CODES),
)
"""Names of the columns that :func:`chunk_statistics` and :func:`store_statistics` return."""


class ReadableChunks(Protocol):
    """Interface of a chunk store: its length, and chunks by index."""

    def __len__(self) -> int:
        """Number of chunks."""
        ...

    def read(self, indices: list[int]) -> np.ndarray:
        """Chunks uint8 (k, 2, x, y, z): intensity, then mask codes."""
        ...


def chunk_statistics(chunk_cxyz: np.ndarray) -> np.ndarray:
    """Statistics of one chunk that ignore where anything lies.

    Args:
        chunk_cxyz: uint8 (2, x, y, z): intensity, mask codes (0 background, 1 pre, 2 cleft, 3 post).

    Returns:
        float32 (k,), named by ``STATISTIC_NAMES``: mean and variance of the intensity in [0, 1], its 16-bin histogram
        as fractions, and the fraction of the voxels under each mask code.
    """
    counts_l = np.bincount(chunk_cxyz[0].ravel(), minlength=256)
    levels_l = np.arange(256) / 255.0
    fractions_l = counts_l / counts_l.sum()
    mean = float(fractions_l @ levels_l)
    variance = float(fractions_l @ (levels_l - mean) ** 2)
    histogram_b = fractions_l.reshape(HISTOGRAM_BINS, -1).sum(axis=1)
    codes = np.bincount(chunk_cxyz[1].ravel(), minlength=4) / chunk_cxyz[1].size
    volumes = codes[list(_MASK_CODES.values())]
    return np.concatenate([[mean, variance], histogram_b, volumes]).astype(np.float32)


def store_statistics(
    store: ReadableChunks, indices: Sequence[int] | np.ndarray | None = None, batch_size: int = 32
) -> np.ndarray:
    """Statistics of many chunks, read batch by batch so that memory stays small.

    Args:
        store: Anything with ``len`` and ``read``, such as the chunk store.
        indices: Chunks to read, in the order wanted; all of them by default.
        batch_size: Chunks held in memory at a time.

    Returns:
        float32 (n, k), columns named by ``STATISTIC_NAMES``.
    """
    from rich.progress import track

    wanted_n = np.arange(len(store)) if indices is None else np.asarray(indices)
    statistics_nk = np.empty((len(wanted_n), len(STATISTIC_NAMES)), dtype=np.float32)
    for start in track(range(0, len(wanted_n), batch_size), description="Measuring images"):
        chunks_bcxyz = store.read(wanted_n[start : start + batch_size].tolist())
        for offset, chunk_cxyz in enumerate(chunks_bcxyz):
            statistics_nk[start + offset] = chunk_statistics(chunk_cxyz)
    return statistics_nk


_MASKS = ("background", "pre_synaptic", "synaptic_cleft", "post_synaptic")
_CLEFT = _MASKS.index("synaptic_cleft")
_NEIGHBOURS = {"background": 0, "pre_synaptic": 1, "post_synaptic": 3}
SHELLS_NM = (0.0, 60.0, 120.0)
"""Limits of the shells around the cleft in which neighbours are counted: a membrane with its density, and beyond."""

MASK_STATISTIC_NAMES: tuple[str, ...] = (
    *(f"{name}_{what}" for name in _MASKS for what in ("fraction", "missing", "mean", "deviation")),
    *(
        f"shell_{outer:.0f}_nm_{what}"
        for outer in SHELLS_NM[1:]
        for what in (*(f"{name}_fraction" for name in _NEIGHBOURS), "mean")
    ),
    "cleft_contrast",
)
"""Names of the columns that :func:`mask_statistics` and :func:`store_mask_statistics` return."""


MASK_STATISTICS = TableSchema(
    "The table of mask statistics",
    {
        "synapse_id": Column("id", unique=True),
        **{
            name: SHARE if name.endswith(("_fraction", "_missing", "_mean", "_deviation")) else Column()
            for name in MASK_STATISTIC_NAMES
        },
    },
    key="synapse_id",
    may_be_empty=False,
)


def mask_statistics(chunk_cxyz: np.ndarray, voxel_size_nm: Sequence[float]) -> np.ndarray:
    """Statistics of one chunk by mask, and of what surrounds its cleft.

    A merge error enlarges a neurite's mask and puts membranes into it, a split leaves the cleft without a partner, a
    cleft that is not where the membranes are is no darker than its surroundings, and missing data are black.

    Args:
        chunk_cxyz: uint8 (2, x, y, z): intensity (0: missing data), mask codes (0 background, 1 pre, 2 cleft, 3 post).
        voxel_size_nm: Voxel size (x, y, z) in nm.

    Returns:
        float32 (25,), named by ``MASK_STATISTIC_NAMES``. Per mask: its share of the chunk, the share of its voxels that
        are missing, mean and standard deviation of the others' intensity in [0, 1]. Per shell around the cleft: shares
        of background, presynaptic and postsynaptic voxels, mean intensity. Last, the cleft's mean less that of the
        inner shell. What cannot be taken, as of a mask without voxels, is 0.
    """
    joint_ml = np.bincount(chunk_cxyz[1].ravel() * np.uint16(256) + chunk_cxyz[0].ravel(), minlength=4 * 256)
    per_mask = [_describe(counts_l, int(joint_ml.sum())) for counts_l in joint_ml[: 4 * 256].reshape(4, 256)]
    shells, inner_mean = _describe_shells(chunk_cxyz, voxel_size_nm)
    cleft_mean = per_mask[_CLEFT][2]
    contrast = cleft_mean - inner_mean if cleft_mean and inner_mean else 0.0
    return np.array([*np.ravel(per_mask), *shells, contrast], dtype=np.float32)


def _describe(counts_l: np.ndarray, n_voxels: int) -> list[float]:
    """Share, missing share, mean and standard deviation of a mask from its histogram."""
    n_mask, n_seen = int(counts_l.sum()), int(counts_l[1:].sum())
    levels_l = np.arange(1, 256) / 255.0
    mean = float(counts_l[1:] @ levels_l / n_seen) if n_seen else 0.0
    variance = float(counts_l[1:] @ (levels_l - mean) ** 2 / n_seen) if n_seen else 0.0
    return [n_mask / n_voxels, 1.0 - n_seen / n_mask if n_mask else 0.0, mean, variance**0.5]


def _describe_shells(chunk_cxyz: np.ndarray, voxel_size_nm: Sequence[float]) -> tuple[list[float], float]:
    """Statistics of the shells around the cleft, and the mean intensity of the inner one."""
    from scipy.ndimage import distance_transform_edt

    places = np.nonzero(chunk_cxyz[1] == _CLEFT)
    n_values = len(_NEIGHBOURS) + 1
    if not len(places[0]):
        return [0.0] * n_values * (len(SHELLS_NM) - 1), 0.0
    reach = [int(np.ceil(SHELLS_NM[-1] / size)) for size in voxel_size_nm]
    window = tuple(slice(max(0, p.min() - r), p.max() + r + 1) for p, r in zip(places, reach, strict=True))
    intensity_xyz, code_xyz = chunk_cxyz[0][window], chunk_cxyz[1][window]
    distance_xyz = distance_transform_edt(code_xyz != _CLEFT, sampling=voxel_size_nm)
    values: list[float] = []
    for inner, outer in pairwise(SHELLS_NM):
        is_shell_xyz = (distance_xyz > inner) & (distance_xyz <= outer)
        codes_v, levels_v = code_xyz[is_shell_xyz], intensity_xyz[is_shell_xyz]
        seen_v = levels_v[levels_v > 0]
        values += [float((codes_v == code).mean()) if len(codes_v) else 0.0 for code in _NEIGHBOURS.values()]
        values.append(float(seen_v.mean() / 255.0) if len(seen_v) else 0.0)
    return values, values[n_values - 1]


def store_mask_statistics(store: ReadableChunks, voxel_size_nm: Sequence[float], batch_size: int = 32) -> np.ndarray:
    """Statistics of all chunks of a store, read batch by batch so that memory stays small.

    Args:
        store: Anything with ``len`` and ``read``, such as the chunk store.
        voxel_size_nm: Voxel size (x, y, z) in nm.
        batch_size: Chunks held in memory at a time.

    Returns:
        float32 (n, 25), columns named by ``MASK_STATISTIC_NAMES``.
    """
    from rich.progress import track

    statistics_nk = np.empty((len(store), len(MASK_STATISTIC_NAMES)), dtype=np.float32)
    for start in track(range(0, len(store), batch_size), description="Measuring masks"):
        rows = range(start, min(start + batch_size, len(store)))
        for row, chunk_cxyz in zip(rows, store.read(list(rows)), strict=True):
            statistics_nk[row] = mask_statistics(chunk_cxyz, voxel_size_nm)
    return statistics_nk


_PRE, _POST = 1, 3
_Z = np.array([0.0, 0.0, 1.0])
_UNIT_SIZE = (1.0, 1.0, 1.0)


@dataclass(frozen=True)
class CleftPlane:
    """Plane through a cleft.

    Attributes:
        centre_xyz_nm: float64 (3,): mean position of the cleft's voxels; the chunk's middle if there is none.
        normal_xyz: float64 (3,): unit vector, pointing to the presynaptic side.
        spread_nm: float64 (3,), ascending: standard deviations of the cleft along normal, shorter and longer axis.
        n_voxels: Voxels of the cleft.
        is_defined: False for a cleft of fewer than three voxels, or all in one line; the normal is then the z axis,
            turned to the presynaptic side.
    """

    centre_xyz_nm: np.ndarray
    normal_xyz: np.ndarray
    spread_nm: np.ndarray
    n_voxels: int
    is_defined: bool


def cleft_plane(mask_xyz: np.ndarray, voxel_size_nm: Sequence[float] = _UNIT_SIZE) -> CleftPlane:
    """Fit a plane to a synapse's cleft by principal component analysis.

    Args:
        mask_xyz: uint8 (x, y, z): 0 background, 1 presynaptic, 2 cleft, 3 postsynaptic.
        voxel_size_nm: Voxel size (x, y, z). Positions count from the middle of the first voxel.

    Returns:
        The plane. Its normal points from the postsynaptic voxels' centre to the presynaptic ones'; where one side is
        absent, the cleft's centre takes its place.

    Source: Wilson & Babadi, bioRxiv 2022.06.07.495207; tested against vectors recorded from the published code.
    """
    size_nm = np.asarray(voxel_size_nm, dtype=np.float64)
    cleft_p3 = _positions(mask_xyz == _CLEFT, size_nm)
    centre = cleft_p3.mean(axis=0) if len(cleft_p3) else (np.array(mask_xyz.shape) - 1) / 2 * size_nm
    offsets_p3 = cleft_p3 - centre
    variance_3, axes_33 = np.linalg.eigh(offsets_p3.T @ offsets_p3 / max(len(cleft_p3), 1))
    spread = np.sqrt(np.maximum(variance_3, 0.0))
    is_defined = bool(len(cleft_p3) >= 3 and spread[1] > 1e-6 * size_nm.min())
    normal = axes_33[:, 0] if is_defined else _Z
    if normal @ _from_post_to_pre(mask_xyz, centre, size_nm) < 0:
        normal = -normal
    return CleftPlane(centre, normal, spread, len(cleft_p3), is_defined)


def view_axes(
    mask_xyz: np.ndarray, plane: CleftPlane, voxel_size_nm: Sequence[float] = _UNIT_SIZE
) -> tuple[np.ndarray, np.ndarray]:
    """Directions within a cleft's plane in which the synapse as a whole is longest and shortest.

    Args:
        mask_xyz: uint8 (x, y, z), as for :func:`cleft_plane`.
        plane: Of the same mask.
        voxel_size_nm: Voxel size (x, y, z).

    Returns:
        Two float64 (3,) unit vectors, perpendicular to each other and to the normal: the longest direction of all
        masked voxels, projected on the plane, and the other one. Looking along the second shows the longest profile.
        Longest, other and normal form a right-handed system; the sign of the first is arbitrary but fixed: its greatest
        component is positive.
    """
    size_nm = np.asarray(voxel_size_nm, dtype=np.float64)
    helper = np.eye(3)[np.argmin(np.abs(plane.normal_xyz))]
    first = np.cross(plane.normal_xyz, helper)
    basis_32 = np.stack([first / np.linalg.norm(first), np.cross(plane.normal_xyz, first / np.linalg.norm(first))], 1)
    masked_p3 = _positions(mask_xyz > 0, size_nm)
    if len(masked_p3):
        offsets_p2 = (masked_p3 - masked_p3.mean(axis=0)) @ basis_32
        basis_32 = basis_32 @ np.linalg.eigh(offsets_p2.T @ offsets_p2)[1][:, ::-1]
    longest = basis_32[:, 0]
    longest = longest * np.sign(longest[np.argmax(np.abs(longest))])
    return longest, np.cross(plane.normal_xyz, longest)


def _positions(is_inside_xyz: np.ndarray, size_nm: np.ndarray) -> np.ndarray:
    return np.argwhere(is_inside_xyz) * size_nm


def _from_post_to_pre(mask_xyz: np.ndarray, centre: np.ndarray, size_nm: np.ndarray) -> np.ndarray:
    ends = []
    for code in (_PRE, _POST):
        middle = _centroid(mask_xyz == code)
        ends.append(centre if middle is None else middle * size_nm)
    return np.asarray(ends[0] - ends[1])


def _centroid(is_inside_xyz: np.ndarray) -> np.ndarray | None:
    """Mean index of a mask's voxels from its projections: a neurite has too many to list them; None if it has none."""
    counts_xy, counts_z = is_inside_xyz.sum(axis=2), is_inside_xyz.sum(axis=(0, 1))
    if not counts_z.any():
        return None
    projections = (counts_xy.sum(axis=1), counts_xy.sum(axis=0), counts_z)
    return np.array([counts @ np.arange(len(counts)) / counts_z.sum() for counts in projections])


SYNAPSE_ORIENTATIONS = TableSchema(
    "The table of cleft orientations",
    {
        "synapse_id": Column("id", unique=True),
        **{
            f"normal_{axis}": Column(nullable=True, rule=("in_range", {"min_value": -1.001, "max_value": 1.001}))
            for axis in "xyz"
        },
        "tilt_deg": Column(nullable=True, rule=("in_range", {"min_value": 0, "max_value": 90.001})),
        "azimuth_deg": Column(nullable=True, rule=("in_range", {"min_value": 0, "max_value": 180})),
        "n_cleft_voxels": COUNT,
    },
    key="synapse_id",
)

ORIENTATION_COLUMNS = ("synapse_id", "normal_x", "normal_y", "normal_z", "tilt_deg", "azimuth_deg", "n_cleft_voxels")


class OrientedChunks(ReadableChunks, Protocol):
    """Chunk store with ids and voxel size."""

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
    from rich.progress import track

    wanted_id = np.asarray(synapse_id)
    if max_synapses is not None and len(wanted_id) > max_synapses:
        chosen = np.random.default_rng(seed).choice(len(wanted_id), max_synapses, replace=False)
        wanted_id = wanted_id[np.sort(chosen)]
    rows_k = positions_in_store(wanted_id, store.synapse_id)
    normals_k3 = np.full((len(rows_k), 3), np.nan)
    n_voxels_k = np.zeros(len(rows_k), np.int64)
    for place, row in track(list(enumerate(rows_k)), description="Fitting cleft planes"):
        plane = cleft_plane(store.read([int(row)])[0, 1], store.voxel_size_nm)
        n_voxels_k[place] = plane.n_voxels
        if plane.is_defined:
            normals_k3[place] = plane.normal_xyz
    return orientation_table(wanted_id, normals_k3, n_voxels_k)


def orientation_table(synapse_id: np.ndarray, normals_k3: np.ndarray, n_voxels_k: np.ndarray) -> pd.DataFrame:
    """Lay out unit normals (k, 3) of clefts, NaN where there is none, as :func:`cleft_orientations` returns them."""
    tilt_k = np.degrees(np.arccos(np.clip(np.abs(normals_k3[:, 2]), 0.0, 1.0)))
    azimuth_k = np.degrees(np.arctan2(normals_k3[:, 1], normals_k3[:, 0])) % 180.0
    columns = (synapse_id, *normals_k3.T, tilt_k, azimuth_k, n_voxels_k)
    return pd.DataFrame(dict(zip(ORIENTATION_COLUMNS, columns, strict=True)))
