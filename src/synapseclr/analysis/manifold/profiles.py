"""What synapses of a cluster, or at a place along an axis, are like: means of traits with intervals."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd

from synapseclr.analysis.manifold.axes import ManifoldAxis
from synapseclr.analysis.manifold.clusters import Clusters
from synapseclr.analysis.manifold.config import AxesConfig
from synapseclr.analysis.traits import TRAITS, trait_values
from synapseclr.analysis.traits.calibration import grouped_interval

_MEASURES = ("n", "n_neurites", "mean", "lower_90", "upper_90")
CLUSTER_PROFILE_COLUMNS = ("cluster", "n_synapses", "trait", "label", *_MEASURES)
AXIS_PROFILE_COLUMNS = ("cluster", "axis", "trait", "label", "bin", "position", *_MEASURES)


def profiled_values(obs: pd.DataFrame) -> Iterator[tuple[str, str, np.ndarray, np.ndarray]]:
    """Annotated traits, and the volume of the cleft's mask, which every chunk has.

    Yields:
        Name, label, values float64 (n,) with NaN where unknown, and the neurite of each, int64 (n,).
    """
    for trait in TRAITS:
        values_n = trait_values(obs, trait)
        if np.isfinite(values_n).any():
            yield trait.name, trait.label, values_n, neurite_codes(obs, trait.group)
    if "synaptic_cleft_volume" in obs:
        volume_n = obs["synaptic_cleft_volume"].to_numpy(dtype=float)
        logarithm_n = np.log10(np.where(volume_n > 0, volume_n, np.nan))
        yield "log10_cleft_volume", "cleft volume (log10 voxels)", logarithm_n, neurite_codes(obs, "pre_root_id")


def neurite_codes(obs: pd.DataFrame, column: str) -> np.ndarray:
    """Code of each synapse's neurite; every synapse counts as one of its own if the column is absent."""
    if column not in obs:
        return np.arange(len(obs))
    # factorize keeps 64-bit root ids exact.
    return np.asarray(pd.factorize(obs[column].to_numpy())[0])


def cluster_profiles(obs: pd.DataFrame, clusters: Clusters, config: AxesConfig | None = None) -> pd.DataFrame:
    """Mean of every annotated trait in every cluster.

    Args:
        obs: One row per synapse: annotations and metadata.
        clusters: Which synapse is in which; those in none are left out.
        config: Number of bootstrap samples.

    Returns:
        One row per cluster and trait: ``n`` synapses with a value, ``mean``, and its 90 % interval by the bootstrap
        over neurites.
    """
    config = config or AxesConfig()
    rows = []
    for name, label, values_n, neurite_n in profiled_values(obs):
        for cluster in range(clusters.n_clusters):
            is_inside_n = clusters.label_n == cluster
            measures = _mean_with_interval(values_n[is_inside_n], neurite_n[is_inside_n], config.n_draws)
            if measures is not None:
                rows.append((cluster, int(is_inside_n.sum()), name, label, *measures))
    table = pd.DataFrame(rows, columns=list(CLUSTER_PROFILE_COLUMNS))
    return table.sort_values("cluster", kind="stable", ignore_index=True)


def axis_profiles(axes: Sequence[ManifoldAxis], obs: pd.DataFrame, config: AxesConfig | None = None) -> pd.DataFrame:
    """Mean of every annotated trait along every axis.

    Args:
        axes: From :func:`synapseclr.analysis.manifold.cluster_axes`.
        obs: One row per synapse: annotations and metadata.
        config: Bins and bootstrap samples.

    Returns:
        One row per axis, trait and bin (equally full of synapses with a value, at most a third of them): ``position``,
        the bin's mean place along the axis; ``n``; ``mean`` with its 90 % interval by the bootstrap over neurites.
    """
    config = config or AxesConfig()
    rows = []
    for name, label, values_n, neurite_n in profiled_values(obs):
        for axis in axes:
            known_k = np.flatnonzero(np.isfinite(values_n[axis.rows_m]))
            if not len(known_k):
                continue
            ordered_k = known_k[np.argsort(axis.position_m[known_k], kind="stable")]
            bins = np.array_split(ordered_k, max(1, min(config.n_bins, len(ordered_k) // 3)))
            for number, members in enumerate(bins):
                chosen = axis.rows_m[members]
                measures = _mean_with_interval(values_n[chosen], neurite_n[chosen], config.n_draws)
                assert measures is not None  # every bin holds synapses with a value
                position = float(axis.position_m[members].mean())
                rows.append((axis.cluster, axis.axis, name, label, number, position, *measures))
    table = pd.DataFrame(rows, columns=list(AXIS_PROFILE_COLUMNS))
    return table.sort_values(["cluster", "axis"], kind="stable", ignore_index=True)


def _mean_with_interval(
    values_m: np.ndarray, neurite_m: np.ndarray, n_draws: int
) -> tuple[int, int, float, float, float] | None:
    """Number of synapses and neurites, mean, and ends of its interval; None without values."""
    is_known_m = np.isfinite(values_m)
    if not is_known_m.any():
        return None
    known, neurites = values_m[is_known_m], neurite_m[is_known_m]
    lower, upper = grouped_interval(known, neurites, n_draws=n_draws)
    return len(known), len(np.unique(neurites)), float(known.mean()), lower, upper
