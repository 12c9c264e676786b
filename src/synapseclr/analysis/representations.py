"""Features of synapses that are analysed: recorded layers, alone or side by side with statistics of the masks.

Blocks side by side have equal weight: none drowns the others by its number of columns.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from synapseclr.analysis.handcrafted import MASK_STATISTIC_NAMES
from synapseclr.errors import SynapseCLRError
from synapseclr.storage.sharded_anndata import is_lazy
from synapseclr.storage.stored_table import StoredTable
from synapseclr.volumes.synapse_table import aligned_rows

if TYPE_CHECKING:
    from anndata import AnnData

BACKBONE = "encoder.fc"
"""Layer that lies in ``X``; the others lie in ``obsm`` under their own names."""

PROJECTOR_LAYERS = ("projector.mlp.0", "projector.mlp.3")
LAYERS = (BACKBONE, *PROJECTOR_LAYERS)


def layer_features(embeddings: AnnData, layer: str = BACKBONE) -> np.ndarray:
    """Features of one recorded layer, in memory.

    Args:
        embeddings: Synapses by backbone features, with the projector layers in ``obsm``. Lazy ones are read as a whole:
            an analysis of millions of synapses takes :func:`layer_array`.
        layer: ``encoder.fc``, ``projector.mlp.0`` or ``projector.mlp.3``.

    Returns:
        float32 (n, f), C-contiguous.

    Raises:
        SynapseCLRError: If the layer is absent or holds values that are not finite.
    """
    features_nf = np.ascontiguousarray(layer_array(embeddings, layer), dtype=np.float32)
    check_finite(features_nf, layer)
    return features_nf


def layer_array(embeddings: AnnData, layer: str = BACKBONE) -> Any:
    """Features of one recorded layer as they lie: a numpy array, or a lazy one (dask) where they exceed memory.

    Lazy features are for :class:`synapseclr.analysis.row_blocks.RowBlocks`. Nothing is read, so that values that are
    not finite are found by the first pass over the blocks (``RowBlocks.moments``).

    Args:
        embeddings: As of :func:`layer_features`.
        layer: As of :func:`layer_features`.

    Raises:
        SynapseCLRError: If the layer is absent.
    """
    if layer != BACKBONE and layer not in embeddings.obsm:
        present = ", ".join([BACKBONE, *embeddings.obsm])
        raise SynapseCLRError(f"The embeddings have no layer '{layer}'. Layers present: {present}.")
    return embeddings.X if layer == BACKBONE else embeddings.obsm[layer]


def recorded_layers(embeddings: AnnData) -> dict[str, np.ndarray]:
    """Every recorded layer that the embeddings hold, in the order backbone, middle, head: name to float32 (n, f)."""
    present = [BACKBONE, *(layer for layer in PROJECTOR_LAYERS if layer in embeddings.obsm)]
    return {layer: layer_features(embeddings, layer) for layer in present}


def recorded_arrays(embeddings: AnnData) -> dict[str, Any]:
    """Every recorded layer as it lies, see :func:`layer_array`, in the order of :func:`recorded_layers`."""
    present = [BACKBONE, *(layer for layer in PROJECTOR_LAYERS if layer in embeddings.obsm)]
    return {layer: layer_array(embeddings, layer) for layer in present}


def check_finite(features_nf: np.ndarray, name: str) -> None:
    """Refuse features that hold NaN or infinity.

    Args:
        features_nf: Shape (n, f).
        name: What they are, for the message.

    Raises:
        SynapseCLRError: With the number of synapses concerned.
    """
    n_bad = int((~np.isfinite(features_nf)).any(axis=1).sum())
    if n_bad:
        raise SynapseCLRError(
            f"Features of '{name}' are not finite for {n_bad} of {len(features_nf)} synapses. The encoder has "
            "diverged: lower the learning rate or use fp32, then run pretraining and embedding again."
        )


@dataclass(frozen=True)
class FeatureBlocks:
    """Blocks of features of the same synapses, such as learned ones and statistics of the masks.

    Methods standardise every column and divide a block by the root of its number of columns, so that all blocks have
    the same weight in distances and dot products: 900 learned features would otherwise drown 25 statistics.

    Attributes:
        parts: float arrays, each (n, f of the block).
    """

    parts: tuple[np.ndarray, ...]

    def __len__(self) -> int:
        return len(self.parts[0])

    def __getitem__(self, rows: Any) -> FeatureBlocks:
        return FeatureBlocks(tuple(part[rows] for part in self.parts))


Features = np.ndarray | FeatureBlocks


def blocks_of(features: Features) -> tuple[np.ndarray, ...]:
    """The blocks; a plain matrix is one block."""
    return features.parts if isinstance(features, FeatureBlocks) else (features,)


def is_lazy_features(features: Features) -> bool:
    """Tell features that exceed memory (dask) from those in memory; of blocks, one suffices."""
    return any(is_lazy(part) for part in blocks_of(features))


def check_blocks(features: Features, name: str) -> None:
    """Refuse features that hold NaN or infinity; see :func:`synapseclr.analysis.representations.check_finite`."""
    for part_nf in blocks_of(features):
        check_finite(part_nf, name)


Statistics = pd.DataFrame | StoredTable
"""A table of statistics: ``synapse_id`` and a column per statistic; may hold more synapses than are wanted."""


def normal_scores(statistics_nk: np.ndarray) -> np.ndarray:
    """Replace every value by the normal quantile of its rank in its column (van der Waerden scores).

    Volumes and shares are skewed, and a defective synapse lies far from all others: as they are measured, a linear
    probe reads less off them than they hold (cleft size, simulated: 0.88 of the variance against 0.96). Ranks need no
    annotation.

    Args:
        statistics_nk: Shape (n, k), finite.

    Returns:
        float32 (n, k); equal values share their mean rank, so a constant column becomes 0.
    """
    scores_nk = np.empty(statistics_nk.shape, np.float32)
    for column, value_n in enumerate(np.asarray(statistics_nk).T):  # one by one: there may be millions of rows
        scores_nk[:, column] = _normal_scores(value_n)
    return scores_nk


def _normal_scores(value_n: np.ndarray) -> np.ndarray:
    from scipy.special import ndtri
    from scipy.stats import rankdata

    rank_n = rankdata(value_n)
    rank_n -= 0.5
    rank_n /= len(value_n)
    return np.asarray(ndtri(rank_n, out=rank_n))


def statistic_scores(
    table: Statistics,
    names: Sequence[str],
    synapse_id: np.ndarray,
    called: str,
    rows_s: np.ndarray | None = None,
) -> np.ndarray:
    """Normal scores of statistics, ranked among all synapses wanted, column by column.

    Args:
        table: Statistics; one that stays in its file is never held as a whole.
        names: Columns wanted.
        synapse_id: int64 (n,): the synapses among which values are ranked.
        called: Name of the table, for messages.
        rows_s: int (s,): those of the n whose scores are returned; None: all.

    Returns:
        float32 (s, k).

    Raises:
        TableError: If a synapse has no statistics.
        SynapseCLRError: If values are not finite.
    """
    rows_n = aligned_rows(synapse_id, table["synapse_id"].to_numpy(), called)
    scores_sk = np.empty((len(rows_n if rows_s is None else rows_s), len(names)), np.float32)
    is_finite_n = np.ones(len(rows_n), bool)
    for column, name in enumerate(names):
        value_n = _in_order(table[name].to_numpy(), rows_n).astype(np.float32, copy=False)
        is_finite_n &= np.isfinite(value_n)
        score_n = _normal_scores(value_n)
        scores_sk[:, column] = score_n if rows_s is None else score_n[rows_s]
    check_finite(np.where(is_finite_n, np.float32(0), np.float32(np.nan))[:, None], called)
    return scores_sk


def _in_order(value_t: np.ndarray, rows_n: np.ndarray) -> np.ndarray:
    """Rows of a column; the column itself where these are all of it in order."""
    is_whole = len(rows_n) == len(value_t) and (not len(rows_n) or rows_n[-1] == len(rows_n) - 1)
    return value_t if is_whole and np.array_equal(rows_n, np.arange(len(rows_n))) else value_t[rows_n]


def statistics_of(table: Statistics, names: Sequence[str], synapse_id: np.ndarray, called: str) -> np.ndarray:
    """Statistics float32 (n, k) of the synapses wanted, column by column: no copy of the table is made.

    Args:
        table: Statistics.
        names: Columns wanted.
        synapse_id: int64 (n,).
        called: Name of the table, for messages.
    """
    rows_n = aligned_rows(synapse_id, table["synapse_id"].to_numpy(), called)
    statistics_nk = np.empty((len(rows_n), len(names)), np.float32)
    for column, name in enumerate(names):
        statistics_nk[:, column] = _in_order(table[name].to_numpy(), rows_n)
    return statistics_nk


def with_statistics(embeddings: AnnData, layer: str, mask_statistics: Statistics) -> FeatureBlocks:
    """A recorded layer and the statistics of the masks of the same synapses, as normal scores.

    Args:
        embeddings: Synapses by features.
        layer: Recorded layer.
        mask_statistics: Statistics of the masks.

    Raises:
        SynapseCLRError: If a synapse has no statistics, or features are not finite.
    """
    synapse_id = embeddings.obs["synapse_id"].to_numpy()
    scores_nk = statistic_scores(mask_statistics, MASK_STATISTIC_NAMES, synapse_id, "mask_statistics")
    features = layer_array(embeddings, layer)
    if not is_lazy(features):
        features = layer_features(embeddings, layer)
    return FeatureBlocks((features, scores_nk))
