"""Principal axes of a cluster in the plane, and synapses along them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from synapseclr.analysis.manifold.clusters import Clusters

_ENDS = (2.0, 98.0)
AXIS_COLUMNS = ("cluster", "axis", "synapse_id", "position", "offset", "sample")
NOT_SAMPLED = -1


@dataclass(frozen=True)
class ManifoldAxis:
    """A principal axis of one cluster.

    Attributes:
        cluster: The cluster's label.
        axis: 1 for the longest, 2 for the one across it.
        rows_m: int64 (m,): rows of the cluster's synapses.
        centre_d: float64 (d,): their mean.
        direction_d: float64 (d,): unit vector; its greatest component is positive.
        position_m: float64 (m,): where each synapse lies along the axis, 0 at the centre.
        offset_m: float64 (m,): its distance from the axis.
        variance_fraction: Share of the cluster's variance in the plane along the axis.
    """

    cluster: int
    axis: int
    rows_m: np.ndarray
    centre_d: np.ndarray
    direction_d: np.ndarray
    position_m: np.ndarray
    offset_m: np.ndarray
    variance_fraction: float


def cluster_axes(coordinates_nd: np.ndarray, clusters: Clusters, n_clusters: int) -> list[ManifoldAxis]:
    """Principal axes of the largest clusters.

    Args:
        coordinates_nd: float (n, d): the plane.
        clusters: Which synapse is in which.
        n_clusters: Largest clusters wanted.

    Returns:
        As many axes per cluster as it has extent in, the longest first. A cluster of one place has none.

    Source: as published, the principal axes of the UMAP coordinates of one cluster.
    """
    axes = []
    for cluster in range(min(n_clusters, clusters.n_clusters)):
        rows_m = np.flatnonzero(clusters.label_n == cluster)
        points_md = np.asarray(coordinates_nd[rows_m], dtype=np.float64)
        centre_d = points_md.mean(axis=0)
        _, values, directions = np.linalg.svd(points_md - centre_d, full_matrices=False)
        for number, (value, direction_d) in enumerate(zip(values, directions, strict=True), start=1):
            if value <= 1e-6 * max(values[0], 1e-300) or value == 0:
                continue
            if direction_d[np.argmax(np.abs(direction_d))] < 0:
                direction_d = -direction_d
            position_m = (points_md - centre_d) @ direction_d
            across_md = points_md - centre_d - np.outer(position_m, direction_d)
            share = float(value**2 / np.square(values).sum())
            offset_m = np.linalg.norm(across_md, axis=1)
            axes.append(ManifoldAxis(cluster, number, rows_m, centre_d, direction_d, position_m, offset_m, share))
    return axes


def sample_along(axis: ManifoldAxis, n_samples: int) -> np.ndarray:
    """Choose synapses at equal steps along an axis, each the nearest to the axis itself.

    Args:
        axis: The axis.
        n_samples: Synapses wanted; all of the cluster's, in order, if it has fewer.

    Returns:
        int64 (k,): positions into ``axis.rows_m``, each once, from the axis' lower end to its upper one (percentiles 2
        to 98).
    """
    n_samples = min(n_samples, len(axis.rows_m))
    low, high = np.percentile(axis.position_m, _ENDS)
    chosen: list[int] = []
    for step in np.linspace(low, high, n_samples):
        squared_m = np.square(axis.position_m - step) + np.square(axis.offset_m)
        squared_m[chosen] = np.inf
        chosen.append(int(np.argmin(squared_m)))
    order = np.argsort(axis.position_m[chosen], kind="stable")
    return np.array(chosen, dtype=np.int64)[order]


def axis_position_table(axes: Sequence[ManifoldAxis], synapse_id: np.ndarray, n_samples: int) -> pd.DataFrame:
    """List where every synapse lies along the axes of its cluster.

    Args:
        axes: From :func:`cluster_axes`.
        synapse_id: int64 (n,): ids of all rows.
        n_samples: Synapses to sample along each axis.

    Returns:
        One row per axis and synapse: ``cluster``, ``axis``, ``synapse_id``, ``position`` and ``offset`` in the plane's
        units, ``sample`` (0, 1, ... for those sampled along the axis, -1 for the others).
    """
    tables = []
    for axis in axes:
        sample_m = np.full(len(axis.rows_m), NOT_SAMPLED, np.int64)
        chosen = sample_along(axis, n_samples)
        sample_m[chosen] = np.arange(len(chosen))
        ids_m = synapse_id[axis.rows_m]
        columns = (axis.cluster, axis.axis, ids_m, axis.position_m, axis.offset_m, sample_m)
        tables.append(pd.DataFrame(dict(zip(AXIS_COLUMNS, columns, strict=True))))
    if not tables:
        return pd.DataFrame({name: pd.Series(dtype="int64") for name in AXIS_COLUMNS})
    return pd.concat(tables, ignore_index=True)
