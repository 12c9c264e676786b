"""Nodes of the imputation pipeline."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from synapseclr.analysis.config import ImputationConfig
from synapseclr.analysis.handcrafted.image_statistics import STATISTIC_NAMES, store_statistics
from synapseclr.analysis.imputation.evaluation import comparison_table, summarise_scores
from synapseclr.analysis.imputation.trait_scores import score_representations
from synapseclr.analysis.layers import recorded_layers
from synapseclr.analysis.traits import TRAITS
from synapseclr.errors import TableError
from synapseclr.plotting.traits.scores import score_comparison

if TYPE_CHECKING:
    from anndata import AnnData
    from matplotlib.figure import Figure

    from synapseclr.volumes import ChunkStore
else:
    # Kedro resolves the hints of node functions when the project starts; these types are too heavy to import then.
    AnnData = Figure = ChunkStore = Any

logger = logging.getLogger(__name__)


def measure_statistics(synapse_chunks: ChunkStore, config: ImputationConfig) -> pd.DataFrame:
    """Take the trivial statistics of every chunk: ``synapse_id``, then one column per statistic."""
    statistics_nk = store_statistics(synapse_chunks, batch_size=config.statistics_batch_size)
    table = pd.DataFrame(statistics_nk, columns=list(STATISTIC_NAMES))
    table.insert(0, "synapse_id", np.asarray(synapse_chunks.synapse_id, dtype=np.int64))
    return table


def score_traits(
    synapse_embeddings: AnnData,
    random_embeddings: AnnData,
    other_representations: dict[str, AnnData],
    chunk_statistics: pd.DataFrame,
    config: ImputationConfig,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Score the trained encoder, the random one, others and trivial statistics on every annotated trait.

    Args:
        synapse_embeddings: Embeddings of the trained encoder, with annotations in ``obs``.
        random_embeddings: Embeddings of the randomly initialised encoder.
        other_representations: Embeddings by other weights, such as imported ones, by name.
        chunk_statistics: Trivial statistics per synapse.
        config: The parameters ``imputation``.

    Returns:
        Tidy scores, and the traits that could not be scored with the reason.
    """
    obs = synapse_embeddings.obs
    others = {
        name: _layers_of(embeddings, obs["synapse_id"], name)
        for name, embeddings in {"random": random_embeddings, **other_representations}.items()
    }
    statistics_rows = _rows_of(obs["synapse_id"], chunk_statistics["synapse_id"], "chunk_statistics")
    statistics_nk = chunk_statistics[list(STATISTIC_NAMES)].to_numpy(np.float32)[statistics_rows]
    representations = {
        "synapseclr": recorded_layers(synapse_embeddings),
        **others,
        "trivial_statistics": {"statistics": statistics_nk},
    }
    scores, unscored = score_representations(representations, obs, config)
    for row in unscored.to_dict("records"):
        logger.warning("Trait '%s' is not scored: %s.", row["trait"], row["reason"])
    return scores, unscored


def _layers_of(embeddings: AnnData, wanted_id: pd.Series, name: str) -> dict[str, np.ndarray]:
    """Recorded layers of other embeddings, in the order of the wanted synapses."""
    rows_n = _rows_of(wanted_id, embeddings.obs["synapse_id"], f"{name}.synapse_embeddings")
    return {layer: features_nf[rows_n] for layer, features_nf in recorded_layers(embeddings).items()}


def _rows_of(wanted_id: pd.Series, present_id: pd.Series, name: str) -> np.ndarray:
    """Rows of ``present_id`` in the order of ``wanted_id``."""
    rows_n = pd.Index(present_id.to_numpy()).get_indexer(pd.Index(wanted_id.to_numpy()))
    if (rows_n < 0).any():
        missing = wanted_id.to_numpy()[rows_n < 0].tolist()
        raise TableError(
            f"'{name}' lacks {len(missing)} synapses that 'synapse_embeddings' holds, such as {missing[:3]}: run "
            "`kedro run --pipeline=embedding` again."
        )
    return rows_n


def draw_comparison(trait_scores: pd.DataFrame) -> Figure:
    """Compare the representations trait by trait."""
    return score_comparison(summarise_scores(trait_scores), {trait.name: trait.label for trait in TRAITS})


def tabulate_comparison(trait_scores: pd.DataFrame) -> pd.DataFrame:
    """The comparison as one table: representations, layers and probes by traits."""
    return comparison_table(summarise_scores(trait_scores), {trait.name: trait.label for trait in TRAITS})
