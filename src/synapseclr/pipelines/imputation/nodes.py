"""Nodes of the imputation pipeline."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from synapseclr.analysis.config import ImputationConfig
from synapseclr.analysis.feature_blocks import Features, normal_scores, with_statistics
from synapseclr.analysis.handcrafted import (
    MASK_STATISTIC_NAMES,
    STATISTIC_NAMES,
    store_mask_statistics,
    store_statistics,
)
from synapseclr.analysis.imputation.evaluation_document import comparison_table, summarise_scores
from synapseclr.analysis.imputation.trait_scores import score_representations
from synapseclr.analysis.layers import BACKBONE, recorded_layers
from synapseclr.analysis.synapse_ids import aligned_rows
from synapseclr.analysis.traits import TRAITS
from synapseclr.plotting.traits.scores import score_comparison

if TYPE_CHECKING:
    from anndata import AnnData
    from matplotlib.figure import Figure

    from synapseclr.volumes import ChunkStore
else:
    # Kedro resolves the hints of node functions when the project starts; these types are too heavy to import then.
    AnnData = Figure = ChunkStore = Any

logger = logging.getLogger(__name__)


def measure_image_statistics(synapse_chunks: ChunkStore, config: ImputationConfig) -> pd.DataFrame:
    """Take the statistics of every chunk's image: ``synapse_id``, then one column per statistic."""
    statistics_nk = store_statistics(synapse_chunks, batch_size=config.statistics_batch_size)
    return _statistics_table(synapse_chunks, statistics_nk, STATISTIC_NAMES)


def measure_mask_statistics(synapse_chunks: ChunkStore, config: ImputationConfig) -> pd.DataFrame:
    """Take the statistics of every chunk's masks: ``synapse_id``, then one column per statistic."""
    statistics_nk = store_mask_statistics(synapse_chunks, synapse_chunks.voxel_size_nm, config.statistics_batch_size)
    return _statistics_table(synapse_chunks, statistics_nk, MASK_STATISTIC_NAMES)


def _statistics_table(store: ChunkStore, statistics_nk: np.ndarray, names: tuple[str, ...]) -> pd.DataFrame:
    table = pd.DataFrame(statistics_nk, columns=list(names))
    table.insert(0, "synapse_id", np.asarray(store.synapse_id, dtype=np.int64))
    return table


def score_traits(
    synapse_embeddings: AnnData,
    random_embeddings: AnnData,
    convolution_embeddings: AnnData,
    other_representations: dict[str, AnnData],
    chunk_statistics: pd.DataFrame,
    mask_statistics: pd.DataFrame,
    config: ImputationConfig,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Score the trained encoder and its rivals on every annotated trait.

    ``random`` is the same architecture, readout and averaging, untrained; ``random_convolution`` the mean over one
    untrained convolution; ``trivial_statistics`` those of the image, ``mask_statistics`` those of the masks, both as
    normal scores; and ``synapseclr+statistics`` the trained encoder's features beside the statistics of the masks.

    Args:
        synapse_embeddings: Embeddings of the trained encoder, with annotations in ``obs``.
        random_embeddings: Embeddings of the untrained encoder.
        convolution_embeddings: Embeddings of the untrained convolution.
        other_representations: Embeddings by other weights, such as imported ones, by name.
        chunk_statistics: Statistics of the image per synapse.
        mask_statistics: Statistics of the masks per synapse.
        config: The parameters ``imputation``.

    Returns:
        Tidy scores, and the traits that could not be scored with the reason.
    """
    obs = synapse_embeddings.obs
    others = {
        name: _layers_of(embeddings, obs["synapse_id"], name)
        for name, embeddings in {
            "random": random_embeddings,
            "random_convolution": convolution_embeddings,
            **other_representations,
        }.items()
    }
    others["random_convolution"] = {BACKBONE: others["random_convolution"][BACKBONE]}  # its projector says nothing
    rows_n = aligned_rows(obs["synapse_id"].to_numpy(), chunk_statistics["synapse_id"].to_numpy(), "chunk_statistics")
    statistics_nk = chunk_statistics[list(STATISTIC_NAMES)].to_numpy(np.float32)[rows_n]
    joined = with_statistics(synapse_embeddings, BACKBONE, mask_statistics)
    representations: dict[str, Mapping[str, Features]] = {
        "synapseclr": recorded_layers(synapse_embeddings),
        **others,
        "trivial_statistics": {"statistics": normal_scores(statistics_nk)},
        "mask_statistics": {"statistics": joined.parts[1]},
        "synapseclr+statistics": {BACKBONE: joined},
    }
    scores, unscored = score_representations(representations, obs, config)
    for row in unscored.to_dict("records"):
        logger.warning("Trait '%s' is not scored: %s.", row["trait"], row["reason"])
    return scores, unscored


def _layers_of(embeddings: AnnData, wanted_id: pd.Series, name: str) -> dict[str, np.ndarray]:
    """Recorded layers of other embeddings, in the order of the wanted synapses."""
    present_id = embeddings.obs["synapse_id"].to_numpy()
    rows_n = aligned_rows(wanted_id.to_numpy(), present_id, f"{name}.synapse_embeddings")
    return {layer: features_nf[rows_n] for layer, features_nf in recorded_layers(embeddings).items()}


def draw_comparison(trait_scores: pd.DataFrame) -> Figure:
    """Compare the representations trait by trait."""
    return score_comparison(summarise_scores(trait_scores), {trait.name: trait.label for trait in TRAITS})


def tabulate_comparison(trait_scores: pd.DataFrame) -> pd.DataFrame:
    """The comparison as one table: representations, layers and probes by traits."""
    return comparison_table(summarise_scores(trait_scores), {trait.name: trait.label for trait in TRAITS})
