"""Simulated embeddings of any number of synapses, and what else the analyses read: nodes and pipeline."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable

import numpy as np
import pandas as pd
from kedro.pipeline import Node, Pipeline

from synapseclr import __version__
from synapseclr.analysis.handcrafted import MASK_STATISTIC_NAMES, STATISTIC_NAMES, orientation_table
from synapseclr.analysis.representations import BACKBONE
from synapseclr.pipelines.embedding.pipeline import describe_embeddings
from synapseclr.simulation import SimulationConfig
from synapseclr.storage.sharded_anndata import MatrixShards, ShardedMatrix

logger = logging.getLogger(__name__)

_CLEFT_VOXELS = 1_000


def simulate_embeddings(embedding_shards: str, config: SimulationConfig) -> ShardedMatrix:
    """Draw embeddings with known traits and defects; a run that was killed continues at the shard it was at.

    Args:
        embedding_shards: Folder or URL in which shards are collected.
        config: The parameters ``simulation``, of which ``embeddings`` count.
    """
    from synapseclr.simulation.embeddings import EmbeddingSimulation

    simulation = EmbeddingSimulation(config.embeddings)
    shards = _write_shards(embedding_shards, config, simulation.features, "the encoder")
    obs = pd.concat([simulation.table(shards.rows(shard)) for shard in range(shards.n_shards)], ignore_index=True)
    return _with_tables(shards, obs, config)


def simulate_untrained(embedding_shards: str, config: SimulationConfig) -> ShardedMatrix:
    """Draw what an untrained encoder makes of the same synapses; arguments as of :func:`simulate_embeddings`."""
    from synapseclr.simulation.embeddings import EmbeddingSimulation

    draw = EmbeddingSimulation(config.embeddings).untrained_features
    return _without_traits(_write_shards(embedding_shards, config, draw, "an untrained encoder"), config)


def simulate_convolution(embedding_shards: str, config: SimulationConfig) -> ShardedMatrix:
    """Draw what an untrained convolution makes of the same synapses; arguments as of :func:`simulate_embeddings`."""
    from synapseclr.simulation.embeddings import EmbeddingSimulation

    draw = EmbeddingSimulation(config.embeddings).convolution_features
    return _without_traits(_write_shards(embedding_shards, config, draw, "a convolution"), config)


def simulate_statistics(config: SimulationConfig) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Draw what chunks would tell of the synapses: statistics of masks and of images, and orientations of clefts."""
    from synapseclr.simulation.embeddings import EmbeddingSimulation

    simulation, n = EmbeddingSimulation(config.embeddings), config.embeddings.n_synapses
    synapse_id, normals_k3 = simulation.normals()
    return (
        simulation.mask_statistics(range(n), MASK_STATISTIC_NAMES),
        simulation.image_statistics(range(n), STATISTIC_NAMES),
        orientation_table(synapse_id, normals_k3, np.full(len(synapse_id), _CLEFT_VOXELS)),
    )


def _write_shards(url: str, config: SimulationConfig, draw: Callable[[range], np.ndarray], source: str) -> MatrixShards:
    from rich.progress import track

    settings = config.embeddings
    fingerprint = hashlib.sha256(f"{__version__} {source} {settings.model_dump_json()}".encode()).hexdigest()
    width = draw(range(1)).shape[1]
    shards = MatrixShards(url, settings.n_synapses, {"X": width}, fingerprint)
    for shard in track(shards.begin(), description=f"Simulating features of {source}"):
        shards.write(shard, {"X": draw(shards.rows(shard))})
    return shards


def _without_traits(shards: MatrixShards, config: SimulationConfig) -> ShardedMatrix:
    """Shards with a table of ids alone, since the traits lie beside the trained encoder's features."""
    from synapseclr.simulation.embeddings import FIRST_ID

    return _with_tables(
        shards, pd.DataFrame({"synapse_id": np.arange(shards.n_rows, dtype=np.int64) + FIRST_ID}), config
    )


def _with_tables(shards: MatrixShards, obs: pd.DataFrame, config: SimulationConfig) -> ShardedMatrix:
    obs.index = obs["synapse_id"].astype(str).to_numpy()
    provenance = {"simulation": config.embeddings.model_dump_json(), "synapseclr_version": __version__}
    return ShardedMatrix(shards, obs, {"provenance": provenance, "layer_of_X": BACKBONE})


def create_pipeline() -> Pipeline:
    """Parameters -> embeddings and tables, for analyses at sizes that no simulated volume reaches."""
    inputs, parameters = ["embedding_shards", "params:simulation"], {"params:simulation"}
    untrained = Node(simulate_untrained, inputs, "synapse_embeddings", name="simulate_untrained")
    convolution = Node(simulate_convolution, inputs, "synapse_embeddings", name="simulate_convolution")
    return Pipeline(
        [
            Node(simulate_embeddings, inputs, "synapse_embeddings", name="simulate_embeddings"),
            Node(
                simulate_statistics,
                "params:simulation",
                ["mask_statistics", "chunk_statistics", "synapse_orientations"],
                name="simulate_statistics",
            ),
            Pipeline([untrained], namespace="random", parameters=parameters),
            Pipeline([convolution], namespace="random_convolution", parameters=parameters),
            describe_embeddings(),
        ],
        tags="simulated_embeddings",
    )
