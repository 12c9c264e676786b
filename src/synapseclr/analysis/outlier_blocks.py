"""Outlier scores of features that exceed memory: whitened by moments of all rows, scored block by block.

Distances from the mean and likeness to examples are those of :mod:`synapseclr.analysis.outliers`, up to rounding.
Distances to neighbours and local outlier factors are those to a random sample of the synapses instead of all.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

import numpy as np

from synapseclr.analysis.config import OutliersConfig
from synapseclr.analysis.outliers import Detection, combined, greatest_cosine, unit_rows
from synapseclr.analysis.representations import Features, blocks_of
from synapseclr.analysis.row_blocks import HERE, Moments, RowBlocks, RowBlocksConfig, sample_rows
from synapseclr.analysis.search import FeatureIndex
from synapseclr.errors import SynapseCLRError

logger = logging.getLogger(__name__)

_indices: dict[str, FeatureIndex] = {}  # of this process, by the digest of what they hold


@dataclass(frozen=True)
class Whitening:
    """The map of :func:`synapseclr.analysis.outliers.whiten`, fitted on moments.

    Attributes:
        mean_f: float64 (f,).
        axes_fp: float64 (f, p): principal axes of the standardised features, divided by the shrunk spread; zero for
            constant features.
        mean_square: Mean squared norm of what it makes of the rows that it was fitted on.
    """

    mean_f: np.ndarray
    axes_fp: np.ndarray
    mean_square: float

    @classmethod
    def fit(cls, moments: Moments, shrinkage: float) -> Whitening:
        """Fit on the moments of the rows; ``shrinkage`` and what is raised are as of ``whiten``."""
        spread_f = moments.std_f if moments.n > 1 else np.zeros_like(moments.mean_f)
        largest_f = np.maximum(np.abs(moments.lowest_f), np.abs(moments.highest_f))
        varies_f = spread_f > 1e-6 * np.maximum(largest_f, 1e-30)
        if not varies_f.any():
            raise SynapseCLRError(
                f"Outliers cannot be searched: all {len(spread_f)} features of the {int(moments.n)} synapses are "
                "constant. The encoder has collapsed, or there is a single synapse."
            )
        spread_v = spread_f[varies_f]
        correlation_vv = moments.covariance_ff[np.ix_(varies_f, varies_f)] / np.outer(spread_v, spread_v)
        variance_p, axes_vp = np.linalg.eigh(correlation_vv)
        kept_p = variance_p > 1e-9 * variance_p.max()
        variance_p, axes_vp = variance_p[kept_p], axes_vp[:, kept_p]
        scale_p = np.sqrt((1 - shrinkage) * variance_p + shrinkage * variance_p.mean())
        axes_fp = np.zeros((len(spread_f), len(scale_p)))
        axes_fp[varies_f] = axes_vp / spread_v[:, None] / scale_p
        return cls(moments.mean_f, axes_fp, float((variance_p / scale_p**2).sum()))

    def apply(self, features_nf: np.ndarray) -> np.ndarray:
        """Whitened rows, float64 (n, p)."""
        return np.asarray((features_nf - self.mean_f) @ self.axes_fp)


def whitened(whitenings: tuple[Whitening, ...], *parts: np.ndarray) -> np.ndarray:
    """Whiten blocks of columns each on its own, scaled to the same mean squared norm if there are several."""
    white = [one.apply(part_nf) for one, part_nf in zip(whitenings, parts, strict=True)]
    if len(white) == 1:
        return white[0]
    return np.hstack([white_np / one.mean_square**0.5 for one, white_np in zip(whitenings, white, strict=True)])


@dataclass(frozen=True)
class NeighbourSample:
    """Synapses among which neighbours are searched, and what is known of them.

    Attributes:
        white_mp: Whitened features, float32 (m, p).
        kind: Index: exact if the sample is all there is.
        reach_m: Distance to the farthest of the neighbours in the sample.
        density_m: Local reachability density.
    """

    white_mp: np.ndarray
    kind: Any
    reach_m: np.ndarray
    density_m: np.ndarray

    @classmethod
    def of(cls, white_mp: np.ndarray, k: int, kind: Any) -> NeighbourSample:
        """Measure the neighbourhoods within a sample."""
        index = FeatureIndex(white_mp, kind)
        indices_mk, distances_mk = index.neighbours_of_rows(np.arange(len(white_mp)), k)
        distances_mk = distances_mk.astype(np.float64)
        reach_mk = np.maximum(distances_mk, distances_mk[:, -1][indices_mk])
        density_m = 1.0 / np.maximum(reach_mk.mean(axis=1), 1e-12)
        return cls(index.features_nf, kind, distances_mk[:, -1], density_m)


def detect_in_blocks(
    features: Features, rows_e: np.ndarray, config: OutliersConfig, row_blocks: RowBlocksConfig = HERE
) -> Detection:
    """Score synapses as :func:`synapseclr.analysis.outliers.detect` does, without ever holding their features.

    Args:
        features: Lazy (n, f), or blocks of which one is lazy.
        rows_e: int (e,): rows of the examples; may be empty.
        config: The parameters ``outliers``; ``n_reference`` is the size of the sample for ``knn`` and ``lof``.
        row_blocks: Size of the blocks, and who computes them.
    """
    parts = blocks_of(features)
    with RowBlocks("outliers", parts, row_blocks) as blocks:
        whitenings = tuple(Whitening.fit(blocks.moments(part), config.shrinkage) for part in range(len(parts)))
        unit_ep = unit_rows(whitened(whitenings, *_rows(blocks, rows_e))) if len(rows_e) else None
        if config.unsupervised == "mahalanobis":
            found = blocks.map(_score_distance, whitenings, unit_ep, description="Scoring outliers").columns()
        else:
            found = _score_neighbourhoods(blocks, whitenings, unit_ep, config)
    return combined(found["unsupervised"], found.get("likeness"), len(rows_e), config.prior_examples)


def _score_neighbourhoods(
    blocks: RowBlocks, whitenings: tuple[Whitening, ...], unit_ep: np.ndarray | None, config: OutliersConfig
) -> dict[str, np.ndarray]:
    rows_m = sample_rows(blocks.n_rows, config.n_reference, config.seed)
    is_all = len(rows_m) == blocks.n_rows
    if not is_all:
        logger.info("Neighbours are searched among %d of %d synapses, drawn at random.", len(rows_m), blocks.n_rows)
    white_mp = whitened(whitenings, *blocks.rows(rows_m)).astype(np.float32)
    k = min(config.n_neighbours, len(rows_m) - 1)
    sample = NeighbourSample.of(white_mp, k, "auto" if is_all else "ivf")
    place_n = np.full(blocks.n_rows, -1)
    place_n[rows_m] = np.arange(len(rows_m))
    with RowBlocks(blocks.name, (*blocks.arrays, place_n), blocks.config) as placed:
        scored = placed.map(
            _score_neighbours, whitenings, unit_ep, sample, config.unsupervised, k, description="Scoring outliers"
        )
        return scored.columns()


def _rows(blocks: RowBlocks, rows_e: np.ndarray) -> tuple[np.ndarray, ...]:
    """Rows of all parts in the order asked for, each once."""
    ordered_e, places_e = np.unique(rows_e, return_inverse=True)
    return tuple(part[places_e] for part in blocks.rows(ordered_e))


def _likeness(white_np: np.ndarray, unit_ep: np.ndarray | None) -> dict[str, np.ndarray]:
    return {} if unit_ep is None else {"likeness": greatest_cosine(unit_rows(white_np), unit_ep)}


def _score_distance(*given: Any) -> dict[str, np.ndarray]:
    *parts, whitenings, unit_ep = given
    white_np = whitened(whitenings, *parts)
    return {"unsupervised": np.linalg.norm(white_np, axis=1), **_likeness(white_np, unit_ep)}


def _score_neighbours(*given: Any) -> dict[str, np.ndarray]:
    *parts, place_n, whitenings, unit_ep, sample, kind, k = given
    white_np = whitened(whitenings, *parts)
    indices_nk, distances_nk = _neighbours(white_np.astype(np.float32), place_n, sample, k)
    if kind == "knn":
        score_n = distances_nk.mean(axis=1)
    else:
        reach_nk = np.maximum(distances_nk, sample.reach_m[indices_nk])
        density_n = 1.0 / np.maximum(reach_nk.mean(axis=1), 1e-12)
        score_n = sample.density_m[indices_nk].mean(axis=1) / density_n
    return {"unsupervised": score_n, **_likeness(white_np, unit_ep)}


def _neighbours(
    white_np: np.ndarray, place_n: np.ndarray, sample: NeighbourSample, k: int
) -> tuple[np.ndarray, np.ndarray]:
    """Neighbours in the sample, a synapse that is in it itself left out."""
    from dask.tokenize import tokenize

    digest = tokenize(sample.white_mp, sample.kind)
    if digest not in _indices:
        _indices.clear()
        _indices[digest] = FeatureIndex(sample.white_mp, sample.kind)
    indices_nk, distances_nk = _indices[digest].search(white_np, min(k + 1, len(sample.white_mp)))
    is_other_nk = indices_nk != place_n[:, None]
    is_other_nk[is_other_nk.all(axis=1), -1] = False
    shape = (len(white_np), indices_nk.shape[1] - 1)
    return indices_nk[is_other_nk].reshape(shape), distances_nk[is_other_nk].reshape(shape).astype(np.float64)
