"""Principal components of features that exceed memory: axes from merged moments, rows projected block by block.

Components are those of :func:`synapseclr.analysis.manifold.principal_components`, up to rounding.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from synapseclr.analysis.row_blocks import HERE, Moments, RowBlocks, RowBlocksConfig


@dataclass(frozen=True)
class PrincipalAxes:
    """The map from features to principal components, fitted on the moments of all rows.

    Attributes:
        mean_f: float64 (f,).
        axes_fp: float64 (f, p): unit vectors, the greatest entry of each positive; zero if all features are constant.
        fraction_p: float32 (p,): fraction of the variance along each.
    """

    mean_f: np.ndarray
    axes_fp: np.ndarray
    fraction_p: np.ndarray

    @classmethod
    def of(cls, moments: Moments, n_components: int) -> PrincipalAxes:
        """Find the axes of the rows of which these are the moments; at most ``min(n - 1, f)``, at least one."""
        n_features = len(moments.mean_f)
        n_kept = max(1, min(n_components, int(moments.n) - 1, n_features))
        if not (moments.highest_f > moments.lowest_f).any():
            return cls(moments.mean_f, np.zeros((n_features, n_kept)), np.zeros(n_kept, np.float32))
        variance_p, axes_fp = np.linalg.eigh(moments.covariance_ff)
        variance_p, axes_fp = np.maximum(variance_p[::-1], 0.0), axes_fp[:, ::-1][:, :n_kept]
        greatest_p = np.take_along_axis(axes_fp, np.abs(axes_fp).argmax(axis=0)[None], axis=0)[0]
        fraction_p = (variance_p[:n_kept] / variance_p.sum()).astype(np.float32)
        return cls(moments.mean_f, axes_fp * np.sign(greatest_p), fraction_p)

    def project(self, features_nf: np.ndarray) -> np.ndarray:
        """Components of rows in memory, float32 (n, p)."""
        return _project(features_nf, self.mean_f, self.axes_fp)

    def project_lazily(self, features_nf: Any) -> Any:
        """Components as a dask array (n, p), computed from the features whenever a block is read."""
        width = self.axes_fp.shape[1]
        whole = features_nf.rechunk({1: -1})
        return whole.map_blocks(
            _project, self.mean_f, self.axes_fp, dtype=np.float32, chunks=(whole.chunks[0], (width,))
        )


def components_in_blocks(
    features_nf: Any, n_components: int, row_blocks: RowBlocksConfig = HERE
) -> tuple[np.ndarray, np.ndarray]:
    """Principal components, few of them, of lazy features.

    Args:
        features_nf: Lazy (n, f).
        n_components: As of :func:`synapseclr.analysis.manifold.principal_components`.
        row_blocks: Size of the blocks, and who computes them.

    Returns:
        float32 (n, p) in memory, and float32 (p,) fractions of the variance.
    """
    with RowBlocks("components", (features_nf,), row_blocks) as blocks:
        axes = PrincipalAxes.of(blocks.moments(), n_components)
        found = blocks.map(_components, axes, description="Projecting onto components")
        return found.column("components"), axes.fraction_p


def _project(features_nf: np.ndarray, mean_f: np.ndarray, axes_fp: np.ndarray) -> np.ndarray:
    return np.asarray((features_nf - mean_f) @ axes_fp, dtype=np.float32)


def _components(features_nf: np.ndarray, axes: PrincipalAxes) -> dict[str, np.ndarray]:
    return {"components": axes.project(features_nf)}
