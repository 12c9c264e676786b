"""Simulated embeddings of any number of synapses, written shard by shard: node and pipeline."""

from __future__ import annotations

import hashlib
import logging

import pandas as pd
from kedro.pipeline import Node, Pipeline

from synapseclr import __version__
from synapseclr.analysis.representations import BACKBONE
from synapseclr.pipelines.embedding.pipeline import describe_embeddings
from synapseclr.simulation import SimulationConfig
from synapseclr.storage.sharded_anndata import MatrixShards, ShardedMatrix

logger = logging.getLogger(__name__)


def simulate_embeddings(embedding_shards: str, config: SimulationConfig) -> ShardedMatrix:
    """Draw embeddings with known traits and defects; a run that was killed continues at the shard it was at.

    Args:
        embedding_shards: Folder or URL in which shards are collected.
        config: The parameters ``simulation``, of which ``embeddings`` count.
    """
    from rich.progress import track

    from synapseclr.simulation.embeddings import EmbeddingSimulation

    simulation, settings = EmbeddingSimulation(config.embeddings), config.embeddings
    fingerprint = hashlib.sha256(f"{__version__} {settings.model_dump_json()}".encode()).hexdigest()
    shards = MatrixShards(embedding_shards, settings.n_synapses, {"X": settings.n_features}, fingerprint)
    for shard in track(shards.begin(), description="Simulating embeddings"):
        shards.write(shard, {"X": simulation.features(shards.rows(shard))})
    obs = pd.concat([simulation.table(shards.rows(shard)) for shard in range(shards.n_shards)], ignore_index=True)
    obs.index = obs["synapse_id"].astype(str).to_numpy()
    provenance = {"simulation": settings.model_dump_json(), "synapseclr_version": __version__}
    return ShardedMatrix(shards, obs, {"provenance": provenance, "layer_of_X": BACKBONE})


def create_pipeline() -> Pipeline:
    """Parameters -> embeddings, for analyses at sizes that no simulated volume reaches."""
    simulated = Node(
        simulate_embeddings,
        inputs=["embedding_shards", "params:simulation"],
        outputs="synapse_embeddings",
        name="simulate_embeddings",
    )
    return Pipeline([simulated, describe_embeddings()], tags="simulated_embeddings")
