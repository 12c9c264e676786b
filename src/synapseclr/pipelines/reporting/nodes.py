"""Nodes of the reporting pipeline."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pandas as pd

from synapseclr import __version__
from synapseclr.analysis.config import ReportingConfig
from synapseclr.analysis.evaluation import evaluation_document, evaluation_metrics, summarise_scores
from synapseclr.pipelines.reporting.contents import (
    describe_data,
    describe_examples,
    describe_manifold,
    describe_run,
    describe_similarity,
    describe_training,
    describe_views,
)
from synapseclr.pipelines.reporting.quality import describe_quality, headline
from synapseclr.plotting.report import render_report
from synapseclr.training import PretrainingConfig

if TYPE_CHECKING:
    from anndata import AnnData

    from synapseclr.volumes import ChunkStore
else:
    # Kedro resolves the hints of node functions when the project starts; these types are too heavy to import then.
    AnnData = ChunkStore = Any


def evaluate_run(
    trait_scores: pd.DataFrame,
    synapse_embeddings: AnnData,
    training_history: pd.DataFrame,
    pipeline_seconds: dict[str, float],
    config: ReportingConfig,
) -> tuple[dict[str, Any], dict[str, float]]:
    """Condense a run.

    Args:
        trait_scores: Tidy scores.
        synapse_embeddings: The embeddings, counted.
        training_history: One row per epoch, counted.
        pipeline_seconds: Wall-clock seconds per pipeline.
        config: The parameters ``reporting``.

    Returns:
        The evaluation, and its scores as flat metrics.
    """
    evaluation = evaluation_document(
        trait_scores,
        n_synapses=synapse_embeddings.n_obs,
        epochs=training_history["epoch"].nunique(),
        seconds=pipeline_seconds,
        probe=config.probe,
    )
    return evaluation, evaluation_metrics(evaluation)


def compose_report(
    evaluation: dict[str, Any],
    trait_scores: pd.DataFrame,
    unscored_traits: pd.DataFrame,
    synapse_manifold: AnnData,
    nearest_neighbours: pd.DataFrame,
    synapse_chunks: ChunkStore,
    preprocessing_report: dict[str, Any],
    training_history: pd.DataFrame,
    parameters: dict[str, Any],
    pretraining: PretrainingConfig,
    config: ReportingConfig,
) -> str:
    """Put the run's results on one self-contained page.

    Returns:
        HTML. Figures are drawn anew from the stored results, because images cannot be read back from the catalog.
    """
    summary = summarise_scores(trait_scores)
    sections = [
        describe_quality(summary, unscored_traits, config.probe),
        describe_manifold(synapse_manifold, config.interactive),
        describe_similarity(nearest_neighbours, synapse_chunks),
        describe_examples(synapse_chunks, synapse_manifold.obs, config),
        describe_views(synapse_chunks, pretraining),
        describe_training(training_history),
        describe_data(preprocessing_report),
        describe_run(evaluation["seconds"], synapse_manifold.uns.get("provenance", {}), parameters),
    ]
    facts = {
        "synapses": f"{evaluation['n_synapses']:,}",
        "epochs": f"{evaluation['epochs']:,}",
        "minutes, all pipelines": f"{sum(evaluation['seconds'].values()) / 60:.1f}",
        **headline(summary, config.probe),
    }
    return render_report(config.title, facts, sections, footer=f"synapseclr {__version__}", dpi=config.dpi)
