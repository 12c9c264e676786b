"""Nodes of the similarity pipeline."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from synapseclr.analysis.config import SimilarityConfig
from synapseclr.analysis.layers import layer_features
from synapseclr.analysis.neighbours import nearest_neighbours, neighbour_table, representative_queries
from synapseclr.errors import TableError
from synapseclr.pipelines.similarity.slabs import read_slabs
from synapseclr.plotting.neighbours import neighbour_strips

if TYPE_CHECKING:
    from anndata import AnnData
    from matplotlib.figure import Figure

    from synapseclr.volumes import ChunkStore
else:
    # Kedro resolves the hints of node functions when the project starts; these types are too heavy to import then.
    AnnData = Figure = ChunkStore = Any


def find_neighbours(synapse_embeddings: AnnData, config: SimilarityConfig) -> pd.DataFrame:
    """List the nearest neighbours of every synapse.

    Args:
        synapse_embeddings: Synapses by features.
        config: The parameters ``similarity``.

    Returns:
        ``synapse_id``, ``rank``, ``neighbour_synapse_id``, ``distance``, and ``is_drawn``: whether the synapse is one
        of the figure's queries.
    """
    features_nf = layer_features(synapse_embeddings, config.layer)
    synapse_id = synapse_embeddings.obs["synapse_id"].to_numpy()
    everything_n = np.arange(len(features_nf))
    neighbours = nearest_neighbours(features_nf, everything_n, config.n_neighbours, config.index)
    table = neighbour_table(neighbours, everything_n, synapse_id)
    if config.query_synapse_ids is None:
        drawn = synapse_id[representative_queries(features_nf, config.n_queries, config.seed)]
    else:
        drawn = np.asarray(config.query_synapse_ids)
        unknown = sorted(set(drawn.tolist()) - set(synapse_id.tolist()))
        if unknown:
            raise TableError(f"Parameter similarity.query_synapse_ids names synapses without embedding: {unknown}.")
    return table.assign(is_drawn=table["synapse_id"].isin(drawn))


def draw_neighbours(nearest_neighbours: pd.DataFrame, synapse_chunks: ChunkStore) -> Figure:
    """Draw the chosen queries with their nearest neighbours."""
    drawn = nearest_neighbours[nearest_neighbours["is_drawn"]].sort_values(["synapse_id", "rank"])
    by_query = [rows for _, rows in drawn.groupby("synapse_id", sort=True)]
    ids_qk = np.stack([[rows["synapse_id"].iloc[0], *rows["neighbour_synapse_id"]] for rows in by_query])
    distances_qk = np.stack([rows["distance"].to_numpy() for rows in by_query])
    slabs = [read_slabs(synapse_chunks, ids_k) for ids_k in ids_qk]
    return neighbour_strips(slabs, ids_qk, distances_qk, synapse_chunks.voxel_size_nm)
