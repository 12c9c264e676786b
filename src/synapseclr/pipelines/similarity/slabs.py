"""Single sections out of stored chunks, so that figures of many synapses need little memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from synapseclr.plotting.sections import richest_section
from synapseclr.volumes.synapse_ids import positions_in_store

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
    rows_k = positions_in_store(synapse_id, store.synapse_id)
    return np.stack([best_slab(store.read([int(row)])[0]) for row in rows_k])


def best_slab(chunk_cxyz: np.ndarray) -> np.ndarray:
    """Section uint8 (2, x, y, 1) of a chunk that shows its synapse best."""
    section = richest_section(chunk_cxyz)
    return chunk_cxyz[..., section : section + 1]
