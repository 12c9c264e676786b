"""Nodes of the manifold pipeline that check what features should not know."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import pandas as pd

from synapseclr.analysis.layers import BACKBONE, layer_features, recorded_layers
from synapseclr.analysis.manifold import ManifoldConfig, cleft_orientations, measure_leakage
from synapseclr.analysis.manifold.leakage_scores import leakage_metrics
from synapseclr.analysis.synapse_ids import rows_of_ids

if TYPE_CHECKING:
    from anndata import AnnData

    from synapseclr.volumes import ChunkStore
else:
    # Kedro resolves the hints of node functions when the project starts; these types are too heavy to import then.
    AnnData = ChunkStore = Any

logger = logging.getLogger(__name__)


def orient_clefts(synapse_embeddings: AnnData, synapse_chunks: ChunkStore, config: ManifoldConfig) -> pd.DataFrame:
    """Fit the plane of every cleft; of many synapses, of ``leakage.max_synapses`` drawn at random."""
    synapse_id = synapse_embeddings.obs["synapse_id"].to_numpy()
    return cleft_orientations(synapse_chunks, synapse_id, config.leakage.max_synapses, config.leakage.seed)


def check_leakage(
    synapse_embeddings: AnnData, random_embeddings: AnnData, synapse_orientations: pd.DataFrame, config: ManifoldConfig
) -> tuple[pd.DataFrame, dict[str, float]]:
    """Measure how well orientation, position, section and block can be read off the features.

    Returns:
        Scores with their null, and the scores as metrics.
    """
    synapse_id = synapse_embeddings.obs["synapse_id"].to_numpy()
    random_rows = rows_of_ids(
        tuple(synapse_id.tolist()), random_embeddings.obs["synapse_id"].to_numpy(), "synapse_embeddings"
    )
    representations = {
        "synapseclr": recorded_layers(synapse_embeddings),
        "random": {BACKBONE: layer_features(random_embeddings)[random_rows]},
    }
    scores = measure_leakage(representations, synapse_embeddings.obs, synapse_orientations, config.leakage)
    reasons = scores[["effect", "reason"]].dropna().drop_duplicates()
    for effect, reason in reasons.itertuples(index=False):
        logger.warning("The effect '%s' is not measured: %s.", effect, reason)
    return scores, leakage_metrics(scores)
