"""Single sections out of stored chunks, so that figures of many synapses need little memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from synapseclr.errors import TableError
from synapseclr.plotting.sections import richest_section

if TYPE_CHECKING:
    from synapseclr.volumes import ChunkStore


def read_slabs(store: ChunkStore, synapse_id: np.ndarray) -> np.ndarray:
    """Read the section that shows each synapse best.

    Args:
        store: The chunk store.
        synapse_id: int64 (k,).

    Returns:
        uint8 (k, 2, x, y, 1), in the order asked for.

    Raises:
        TableError: If a synapse has no chunk.
    """
    rows_k = pd.Index(store.synapse_id).get_indexer(pd.Index(synapse_id))
    if (rows_k < 0).any():
        missing = np.asarray(synapse_id)[rows_k < 0].tolist()
        raise TableError(
            f"{len(missing)} synapses have no chunk in the store, such as {missing[:3]}: run preprocessing and "
            "embedding on the same synapse table."
        )
    return np.stack([best_slab(store.read([int(row)])[0]) for row in rows_k])


def best_slab(chunk_cxyz: np.ndarray) -> np.ndarray:
    """Section uint8 (2, x, y, 1) of a chunk that shows its synapse best."""
    section = richest_section(chunk_cxyz)
    return chunk_cxyz[..., section : section + 1]
