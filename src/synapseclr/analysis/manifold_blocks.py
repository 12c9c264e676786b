"""The plane of features that exceed memory: UMAP fitted on a random sample, all other synapses placed among these.

A synapse is placed at the mean of its nearest neighbours in the sample, with the weights of UMAP's own graph: where its
``transform`` begins. The optimisation that would follow there costs hours at ten million synapses, and its result
depends on which synapses are in a block.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from synapseclr.analysis.config import ManifoldConfig
from synapseclr.analysis.manifold import Manifold, check_enough, first_components, fit_planes, manifold_settings
from synapseclr.analysis.principal_axes import PrincipalAxes
from synapseclr.analysis.row_blocks import HERE, RowBlocks, RowBlocksConfig, sample_rows

if TYPE_CHECKING:
    from synapseclr.analysis.search import FeatureIndex

logger = logging.getLogger(__name__)

_GATHERED = 20_000_000  # values of neighbours' components in memory at a time: 80 MB


@dataclass(frozen=True)
class FittedSample:
    """The synapses that projections were fitted on, among which the others are placed.

    Attributes:
        axes: Principal axes of all synapses.
        components_mp: float32 (m, p): components of the sample.
        coordinates: By number of dimensions d: float32 (m, d).
        n_neighbours: Neighbours by which a synapse is placed; 0: the first components stand in for a projection.
    """

    axes: PrincipalAxes
    components_mp: np.ndarray
    coordinates: dict[int, np.ndarray]
    n_neighbours: int

    def __getstate__(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__dataclass_fields__}

    @cached_property
    def index(self) -> FeatureIndex:
        """Index over the sample; each process makes its own, once."""
        from synapseclr.analysis.search import FeatureIndex

        return FeatureIndex(self.components_mp, "ivf")

    def place(self, components_np: np.ndarray) -> dict[int, np.ndarray]:
        """Coordinates of synapses that are not in the sample, by number of dimensions: float32 (n, d)."""
        if not self.n_neighbours:
            return {d: first_components(components_np, d) for d in self.coordinates}
        placed = {d: np.empty((len(components_np), d), np.float32) for d in self.coordinates}
        step = max(1, _GATHERED // (self.n_neighbours * components_np.shape[1]))
        for first in range(0, len(components_np), step):
            part = slice(first, first + step)
            indices_nk, distances_nk = self.index.search(components_np[part], self.n_neighbours)
            weights_nk = neighbour_weights(distances_nk)
            for d, fitted_md in self.coordinates.items():
                placed[d][part] = np.einsum("nk,nkd->nd", weights_nk, fitted_md[indices_nk])
        return placed


def neighbour_weights(distances_nk: np.ndarray) -> np.ndarray:
    """Weights of neighbours, each row with the sum 1, as UMAP gives them to edges of its graph: float64 (n, k)."""
    from umap.umap_ import smooth_knn_dist

    positive_nk = np.maximum(distances_nk, 1e-12).astype(np.float32)
    scale_n, nearest_n = smooth_knn_dist(positive_nk, float(positive_nk.shape[1]), local_connectivity=0.0)
    beyond_nk = np.maximum(positive_nk.astype(np.float64) - nearest_n[:, None], 0.0)
    exponent_nk = -beyond_nk / np.maximum(scale_n, 1e-30)[:, None]
    weights_nk = np.exp(exponent_nk - exponent_nk.max(axis=1, keepdims=True))
    return np.asarray(weights_nk / weights_nk.sum(axis=1, keepdims=True))


def fit_manifold_in_blocks(features_nf: Any, config: ManifoldConfig, row_blocks: RowBlocksConfig = HERE) -> Manifold:
    """Project features to the plane as :func:`synapseclr.analysis.manifold.fit_manifold` does, without holding them.

    Args:
        features_nf: Lazy (n, f).
        config: Settings; ``n_fitted`` is the size of the sample.
        row_blocks: Size of the blocks, and who computes them.

    Returns:
        The coordinates; ``pca_np`` is lazy. ``settings["n_fitted"]`` is the number of synapses that the plane was
        fitted on.

    Raises:
        SynapseCLRError: If there are fewer than two synapses or features that are not finite.
    """
    check_enough(int(features_nf.shape[0]))
    with RowBlocks("manifold", (features_nf,), row_blocks) as blocks:
        axes = PrincipalAxes.of(blocks.moments(), config.n_components)
        rows_m = sample_rows(blocks.n_rows, config.n_fitted, config.random_state or 0)
        components_mp = axes.project(blocks.rows(rows_m)[0])
        settings = manifold_settings(components_mp.shape[1], config)
        fitted = fit_planes(components_mp, settings, config)
        settings["n_fitted"] = len(rows_m)
        logger.info("The plane is fitted on %d of %d synapses.", len(rows_m), blocks.n_rows)
        place_n = np.full(blocks.n_rows, -1)
        place_n[rows_m] = np.arange(len(rows_m))
        sample = FittedSample(axes, components_mp, fitted, settings.get("n_neighbours", 0))
        with RowBlocks(blocks.name, (*blocks.arrays, place_n), blocks.config) as placed:
            found = placed.map(_coordinates, sample, description="Placing synapses").columns()
    return Manifold(axes.project_lazily(features_nf), found["2"], found.get("3"), axes.fraction_p, settings)


def _coordinates(features_nf: np.ndarray, place_n: np.ndarray, sample: FittedSample) -> dict[str, np.ndarray]:
    """Coordinates of a block: those fitted, and of synapses outside the sample those placed."""
    found = {d: fitted_md[np.maximum(place_n, 0)] for d, fitted_md in sample.coordinates.items()}
    is_other_n = place_n < 0
    if is_other_n.any():
        for d, placed_od in sample.place(sample.axes.project(features_nf[is_other_n])).items():
            found[d][is_other_n] = placed_od
    return {str(d): coordinates_nd for d, coordinates_nd in found.items()}
