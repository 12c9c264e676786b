"""Nodes of the reporting pipeline."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import pandas as pd

from synapseclr import __version__
from synapseclr.analysis.config import ConsensusConfig, ImputationConfig, ReportingConfig
from synapseclr.analysis.consensus import censored_metrics, consensus_document, consensus_metrics
from synapseclr.analysis.features import FeaturesConfig
from synapseclr.analysis.imputation.evaluation_document import evaluation_document, evaluation_metrics, summarise_scores
from synapseclr.analysis.imputation.imputing import imputation_document
from synapseclr.analysis.imputation.learning_curves import learning_curve_metrics
from synapseclr.analysis.manifold import ManifoldConfig
from synapseclr.analysis.outliers import OutliersConfig, detection_metrics
from synapseclr.pipelines.reporting.consensus import describe_consensus, describe_few_labels
from synapseclr.pipelines.reporting.contents import (
    describe_data,
    describe_examples,
    describe_training,
    describe_views,
)
from synapseclr.pipelines.reporting.features import describe_features, describe_trait_summaries
from synapseclr.pipelines.reporting.found import describe_outliers, describe_similarity
from synapseclr.pipelines.reporting.imputation import describe_imputation
from synapseclr.pipelines.reporting.manifold import describe_leakage, describe_manifold
from synapseclr.pipelines.reporting.provenance import describe_run
from synapseclr.pipelines.reporting.quality import describe_quality, headline
from synapseclr.pipelines.reporting.summary import describe_setting, summarise_run
from synapseclr.plotting.report import render_report
from synapseclr.training import PretrainingConfig
from synapseclr.training.positives import leakage_warning

if TYPE_CHECKING:
    from anndata import AnnData

    from synapseclr.volumes import ChunkStore
else:
    # Kedro resolves the hints of node functions when the project starts; these types are too heavy to import then.
    AnnData = ChunkStore = Any

logger = logging.getLogger(__name__)


def evaluate_run(
    trait_scores: pd.DataFrame,
    imputation_scores: pd.DataFrame,
    imputation_calibration: pd.DataFrame,
    learning_curves: pd.DataFrame,
    consensus_evaluation: pd.DataFrame,
    censored_consensus: pd.DataFrame,
    outlier_detection: pd.DataFrame,
    synapse_embeddings: AnnData,
    training_history: pd.DataFrame,
    pipeline_seconds: dict[str, float],
    config: ReportingConfig,
) -> tuple[dict[str, Any], dict[str, float]]:
    """Condense a run.

    Args:
        trait_scores: Tidy scores.
        imputation_scores: Scores of the Gaussian processes.
        imputation_calibration: Their calibration.
        learning_curves: Their scores with growing numbers of labels.
        consensus_evaluation: Accuracy and calibration of the cell types of neurites.
        censored_consensus: The same with few labels.
        outlier_detection: How well known defects are found; empty where none are known.
        synapse_embeddings: The embeddings, counted.
        training_history: One row per epoch, counted.
        pipeline_seconds: Wall-clock seconds per pipeline.
        config: The parameters ``reporting``.

    Returns:
        The evaluation, and its scores as flat metrics.
    """
    warn_of_leaks(synapse_embeddings)
    evaluation = evaluation_document(
        trait_scores,
        n_synapses=synapse_embeddings.n_obs,
        epochs=training_history["epoch"].nunique(),
        seconds=pipeline_seconds,
        probe=config.probe,
        gaussian_processes=imputation_document(imputation_scores, imputation_calibration),
    )
    evaluation["consensus"] = consensus_document(consensus_evaluation)
    evaluation["consensus_with_few_labels"] = censored_metrics(censored_consensus)
    evaluation["learning_curves"] = learning_curve_metrics(learning_curves)
    metrics = evaluation_metrics(evaluation) | consensus_metrics(evaluation["consensus"])
    metrics |= evaluation["consensus_with_few_labels"] | evaluation["learning_curves"]
    if len(outlier_detection):
        evaluation["outliers"] = detection_metrics(outlier_detection)
    return evaluation, metrics


def warn_of_leaks(synapse_embeddings: AnnData) -> None:
    """Log what the embeddings' provenance says against taking scores for those of unknown neurites, if anything."""
    warning = leakage_warning(synapse_embeddings.uns.get("provenance", {}))
    if warning:
        logger.warning(warning)


def compose_report(
    evaluation: dict[str, Any],
    trait_scores: pd.DataFrame,
    unscored_traits: pd.DataFrame,
    held_out_predictions: pd.DataFrame,
    imputation_scores: pd.DataFrame,
    imputation_calibration: pd.DataFrame,
    unimputed_traits: pd.DataFrame,
    learning_curves: pd.DataFrame,
    neurite_cell_types: pd.DataFrame,
    held_out_neurites: pd.DataFrame,
    consensus_evaluation: pd.DataFrame,
    consensus_fit: dict[str, float],
    censored_consensus: pd.DataFrame,
    censored_failures: pd.DataFrame,
    synapse_manifold: AnnData,
    axis_positions: pd.DataFrame,
    axis_profiles: pd.DataFrame,
    synapse_orientations: pd.DataFrame,
    leakage_scores: pd.DataFrame,
    synapse_embeddings: AnnData,
    feature_clusters: pd.DataFrame,
    feature_tree: pd.DataFrame,
    layer_spectra: pd.DataFrame,
    component_traits: pd.DataFrame,
    component_examples: pd.DataFrame,
    trait_summaries: pd.DataFrame,
    similarity_results: pd.DataFrame,
    distance_histograms: pd.DataFrame,
    index_recall: pd.DataFrame,
    outlier_candidates: pd.DataFrame,
    outlier_detection: pd.DataFrame,
    synapse_chunks: ChunkStore,
    preprocessing_report: dict[str, Any],
    training_history: pd.DataFrame,
    parameters: dict[str, Any],
    manifold: ManifoldConfig,
    features: FeaturesConfig,
    imputation: ImputationConfig,
    consensus: ConsensusConfig,
    outliers: OutliersConfig,
    pretraining: PretrainingConfig,
    config: ReportingConfig,
) -> str:
    """Put the run's results on one self-contained page.

    Returns:
        HTML. Figures are drawn anew from the stored results, because images cannot be read back from the catalog.
    """
    summary = summarise_scores(trait_scores)
    sections = [
        describe_setting(preprocessing_report, pretraining),
        describe_data(preprocessing_report),
        describe_training(training_history),
        describe_quality(summary, unscored_traits, config.probe),
        describe_imputation(
            held_out_predictions,
            imputation_scores,
            imputation_calibration,
            unimputed_traits,
            learning_curves,
            summary,
            imputation,
        ),
        describe_consensus(neurite_cell_types, held_out_neurites, consensus_evaluation, consensus_fit, consensus),
        describe_few_labels(censored_consensus, censored_failures),
        describe_trait_summaries(trait_summaries),
        describe_manifold(
            synapse_manifold, axis_positions, axis_profiles, synapse_chunks, manifold, config.interactive
        ),
        describe_leakage(synapse_manifold, synapse_orientations, leakage_scores),
        describe_features(
            synapse_embeddings,
            feature_clusters,
            feature_tree,
            layer_spectra,
            component_traits,
            component_examples,
            synapse_chunks,
            features,
        ),
        describe_similarity(similarity_results, distance_histograms, index_recall, synapse_chunks),
        describe_examples(synapse_chunks, synapse_manifold.obs, config),
        describe_views(synapse_chunks, pretraining),
        describe_outliers(outlier_candidates, outlier_detection, synapse_chunks, outliers),
        describe_run(evaluation["seconds"], synapse_manifold.uns.get("provenance", {}), parameters),
    ]
    facts = {
        "synapses": f"{evaluation['n_synapses']:,}",
        "epochs": f"{evaluation['epochs']:,}",
        "minutes, all pipelines": f"{sum(evaluation['seconds'].values()) / 60:.1f}",
        **headline(summary, config.probe),
    }
    in_short = summarise_run(evaluation, preprocessing_report)
    footer = f"synapseclr {__version__}"
    return render_report(config.title, facts, sections, footer=footer, dpi=config.dpi, summary=in_short)
