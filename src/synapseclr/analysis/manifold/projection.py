"""The plane on which all synapses can be looked at: principal components, then UMAP."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from synapseclr.analysis.config import ManifoldConfig
from synapseclr.analysis.layers import check_finite
from synapseclr.errors import SynapseCLRError

FEWEST_FOR_UMAP = 10
"""Below this number of synapses a neighbour graph says nothing; the first two principal components stand in."""

_SEARCHED_ONCE_FROM = 4096  # below, UMAP takes all distances, which is exact and costs no compilation


@dataclass(frozen=True)
class Manifold:
    """Coordinates of the synapses.

    Attributes:
        pca_np: float32 (n, p): principal components.
        umap_n2: float32 (n, 2): coordinates in the plane.
        umap_n3: float32 (n, 3): coordinates in space, fitted on their own; None if not asked for.
        explained_variance_p: float32 (p,): fraction of the variance along each component.
        settings: What was really used, fit for ``AnnData.uns``; ``method`` tells whether a fallback stood in for UMAP.
    """

    pca_np: np.ndarray
    umap_n2: np.ndarray
    umap_n3: np.ndarray | None
    explained_variance_p: np.ndarray
    settings: dict[str, Any]


def principal_components(features_nf: np.ndarray, n_components: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Principal components of the centred features.

    Args:
        features_nf: float (n, f).
        n_components: Components wanted; at most ``min(n - 1, f)`` exist and are returned.
        seed: Seed of the randomised solver that large inputs use.

    Returns:
        float32 (n, p) coordinates and float32 (p,) fractions of the variance. Constant features give zeros.
    """
    from sklearn.decomposition import PCA

    n_kept = max(1, min(n_components, len(features_nf) - 1, features_nf.shape[1]))
    if np.ptp(features_nf, axis=0).max() == 0:
        return np.zeros((len(features_nf), n_kept), np.float32), np.zeros(n_kept, np.float32)
    pca = PCA(n_components=n_kept, random_state=seed)
    coordinates_np = pca.fit_transform(features_nf)
    return coordinates_np.astype(np.float32), pca.explained_variance_ratio_.astype(np.float32)


def usable_neighbours(n_neighbours: int, n_synapses: int) -> int:
    """Cap UMAP's neighbours at a third of the synapses (at least 5): beyond, the plane shows no local structure."""
    return min(n_neighbours, max(5, n_synapses // 3), n_synapses - 1)


def fit_manifold(features_nf: np.ndarray, config: ManifoldConfig | None = None) -> Manifold:
    """Project features to the plane.

    Args:
        features_nf: float (n, f).
        config: Settings, as published by default.

    Returns:
        The coordinates. With fewer than ``FEWEST_FOR_UMAP`` synapses, or features that do not differ, the first
        principal components stand in for UMAP (zeros where there are none), and ``settings["method"]`` says so.

    Raises:
        SynapseCLRError: If there are fewer than two synapses or features that are not finite.
    """
    config = config or ManifoldConfig()
    n_synapses = len(features_nf)
    if n_synapses < 2:
        raise SynapseCLRError(f"A manifold needs at least 2 synapses, the embeddings hold {n_synapses}.")
    check_finite(features_nf, config.layer)
    pca_np, explained_p = principal_components(features_nf, config.n_components, config.random_state or 0)
    settings: dict[str, Any] = {
        "layer": config.layer,
        "n_components": int(pca_np.shape[1]),
        "min_dist": config.min_dist,
        "n_epochs": config.n_epochs,
        "random_state": "none" if config.random_state is None else config.random_state,
    }
    dimensions = (2, 3) if config.three_dimensions else (2,)
    reason = _no_umap(pca_np)
    if reason is not None:
        settings["method"] = f"pca: {reason}"
        projected = {d: _first_components(pca_np, d) for d in dimensions}
    else:
        settings["n_neighbours"] = usable_neighbours(config.n_neighbours, n_synapses)
        settings["method"] = "umap"
        projected = _umap(pca_np, settings["n_neighbours"], config, dimensions)
    return Manifold(pca_np, projected[2], projected.get(3), explained_p, settings)


def _no_umap(pca_np: np.ndarray) -> str | None:
    """Reason why UMAP cannot be fitted on these synapses; None if it can."""
    if not np.ptp(pca_np, axis=0).any():
        return "all synapses have the same features, the encoder has collapsed"
    if len(pca_np) < FEWEST_FOR_UMAP:
        return f"{len(pca_np)} synapses, UMAP needs at least {FEWEST_FOR_UMAP}"
    return None


def _first_components(pca_np: np.ndarray, n_dimensions: int) -> np.ndarray:
    coordinates_nd = np.zeros((len(pca_np), n_dimensions), np.float32)
    n_present = min(n_dimensions, pca_np.shape[1])
    coordinates_nd[:, :n_present] = pca_np[:, :n_present]
    return coordinates_nd


def _umap(
    pca_np: np.ndarray, n_neighbours: int, config: ManifoldConfig, dimensions: tuple[int, ...]
) -> dict[int, np.ndarray]:
    """Coordinates by number of dimensions."""
    from umap import UMAP

    # UMAP falls back to one thread by itself when seeded, and warns about it unless told so.
    n_jobs = -1 if config.random_state is None else 1
    options: dict[str, Any] = {}
    if len(pca_np) >= _SEARCHED_ONCE_FROM:
        options["precomputed_knn"] = _neighbours(pca_np, n_neighbours, config.random_state, n_jobs)
    projected = {}
    for n_dimensions in dimensions:
        reducer = UMAP(
            n_neighbors=n_neighbours,
            n_components=n_dimensions,
            min_dist=config.min_dist,
            n_epochs=config.n_epochs,
            random_state=config.random_state,
            n_jobs=n_jobs,
            **options,
        )
        projected[n_dimensions] = np.asarray(reducer.fit_transform(pca_np), dtype=np.float32)
    return projected


def _neighbours(pca_np: np.ndarray, n_neighbours: int, random_state: int | None, n_jobs: int) -> Any:
    """Nearest neighbours, for all projections: among many synapses their search is the slow part."""
    from umap.umap_ import nearest_neighbors

    seed = np.random.RandomState(random_state)
    return nearest_neighbors(pca_np, n_neighbours, "euclidean", {}, False, seed, n_jobs=n_jobs)
