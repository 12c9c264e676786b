"""Nodes of the pretraining pipeline."""

from __future__ import annotations

import logging
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from synapseclr.errors import SynapseCLRError
from synapseclr.models import EncoderWeights
from synapseclr.pipelines import Drawing, Figure, PlotlyFigure
from synapseclr.plotting.report import Picture, ReportingConfig, Section, pipeline_section
from synapseclr.plotting.sections import augmented_pairs
from synapseclr.plotting.training import training_curve, training_figure
from synapseclr.tracking import current_outbox, log_metrics, request_limits, set_tags
from synapseclr.training import EmbeddingConfig, PretrainingConfig, ProbeTargets
from synapseclr.training.positives import NeuriteTable
from synapseclr.training.serving import ServingConfig
from synapseclr.volumes import PUBLISHED_TRAITS, ChunkStore, Traits

logger = logging.getLogger(__name__)

_MODEL_SECONDS = 60  # for a server that passes weights on to a bucket


def train_encoder(
    synapse_chunks: ChunkStore,
    synapse_metadata: pd.DataFrame,
    annotations: pd.DataFrame,
    config: PretrainingConfig,
    checkpoint_folder: str,
) -> tuple[EncoderWeights, pd.DataFrame]:
    """Train a SimCLR model and report every epoch to MLflow."""
    import mlflow

    from synapseclr.training import fit

    run = mlflow.active_run()
    report = partial(_log_epoch, run.info.run_id if run is not None else None)
    probe = select_probe_targets(synapse_metadata, annotations, config)
    has_partners = config.positives.kind == "same_neurite"
    neurites = NeuriteTable.from_tables(synapse_metadata, annotations) if has_partners else None
    result = fit(synapse_chunks, config, checkpoint_folder, probe, report, neurites)
    _tag_positives(result.weights)
    return result.weights, result.history


def select_probe_targets(metadata: pd.DataFrame, annotations: pd.DataFrame, config: PretrainingConfig) -> ProbeTargets:
    """Choose the annotated synapses that the k-NN probe embeds, at random if there are too many."""
    monitoring = config.monitoring
    traits = [trait for trait in monitoring.probe_traits if trait in annotations.columns]
    table = metadata.merge(annotations[["synapse_id", *traits]], on="synapse_id", validate="one_to_one")
    table = table[table[traits].notna().any(axis=1)]
    if len(table) > monitoring.probe_max_synapses and not config.drop_annotated:
        table = table.sample(monitoring.probe_max_synapses, random_state=config.seed).sort_values("chunk_index")
    groups = {trait: "post_root_id" if trait.startswith("post") else "pre_root_id" for trait in traits}
    return ProbeTargets(
        indices=table["chunk_index"].to_numpy(np.int64),
        labels={trait: table[trait].to_numpy(np.float64) for trait in traits},
        groups={trait: pd.factorize(table[column])[0].astype(np.int64) for trait, column in groups.items()},
    )


def draw_augmented_pairs(synapse_chunks: ChunkStore, config: PretrainingConfig) -> Figure:
    """Draw sixteen synapses with two augmented views each, as the network gets them.

    Both views are of the synapse itself, also where ``positives.kind: same_neurite`` trains with a partner's view.
    """
    from synapseclr.training import sample_augmented_pairs

    pairs = sample_augmented_pairs(synapse_chunks, config)
    return augmented_pairs(
        pairs.chunk_ncxyz,
        pairs.intensity_nvcxyz,
        pairs.cleft_nvxyz,
        synapse_chunks.voxel_size_nm,
        pairs.synapse_id.tolist(),
    )


def plot_training_curve(training_history: pd.DataFrame, traits: Traits = PUBLISHED_TRAITS) -> PlotlyFigure:
    """Draw losses, representation quality and learning rate over the epochs."""
    return training_curve(training_history, traits)


def log_encoder_model(
    encoder_weights: EncoderWeights,
    synapse_chunks: ChunkStore,
    pretraining: PretrainingConfig,
    embedding: EmbeddingConfig,
    serving: ServingConfig,
) -> None:
    """Log the encoder to the active MLflow run as a model that takes chunks, and register it."""
    import mlflow

    from synapseclr.training.serving import log_encoder

    outbox = current_outbox()
    run = mlflow.active_run()
    if run is None and outbox is None:
        logger.info("There is no active MLflow run: the encoder is not logged as an MLflow model.")
        return
    if outbox is not None and not outbox.is_reachable():
        outbox.rerun_later("log_encoder_model")
        return
    if outbox is not None:
        outbox.flush()  # MLflow copies the run's parameters to the model
    try:
        with request_limits(_MODEL_SECONDS):
            logged = log_encoder(
                encoder_weights,
                pretraining.augmentation,
                synapse_chunks,
                serving.registered_model,
                embedding.poses,
                run_id=outbox.run_id if outbox is not None else None,
            )
    except SynapseCLRError:
        raise
    except Exception as error:  # the weights are saved: what MLflow or its artifact store raise must not end the run
        if outbox is None:
            raise
        outbox.failed(error)
        outbox.rerun_later("log_encoder_model")
        return
    tags = {"encoder_model_uri": logged.uri}
    if serving.registered_model is not None:
        tags |= {
            "registered_model": serving.registered_model,
            "registered_model_version": str(logged.registered_version),
        }
    set_tags(tags)
    logger.info("The encoder is %s in MLflow. docs/weights.md tells how to serve it.", logged.uri)


def _tag_positives(weights: EncoderWeights) -> None:
    """Tag the run in MLflow, if there is one, with how many neurites and pairs the training drew on."""
    set_tags({name: value for name, value in weights.provenance.items() if "positives" in name})


def _log_epoch(run_id: str | None, epoch: int, metrics: dict[str, Any]) -> None:
    """Log an epoch's row of rank 0 to a run in MLflow, if there is one; the training does not wait for it."""
    row = {f"pretraining/{name}": value for name, value in metrics.items() if name != "epoch"}
    log_metrics(row, step=epoch, run_id=run_id)


def describe_pretraining(
    training_history: pd.DataFrame,
    augmented_pairs: Drawing,
    encoder_weights: EncoderWeights,
    pretraining: PretrainingConfig,
    config: ReportingConfig,
    traits: Traits = PUBLISHED_TRAITS,
) -> dict[str, Any]:
    """Write the report's sections on the training and on what the network sees."""
    made_from = {"weights": encoder_weights.sha256, "chunks": encoder_weights.provenance.get("chunks_sha256")}
    return pipeline_section(
        [describe_training(training_history, traits), describe_views(augmented_pairs, pretraining)],
        config,
        made_from={what: digest for what, digest in made_from.items() if digest is not None},
        evaluation={"epochs": int(training_history["epoch"].nunique())},
    )


def describe_training(training_history: pd.DataFrame, traits: Traits) -> Section:
    """Tell where the training ended, with its curves."""
    last = training_history.iloc[-1]
    known = {"train_loss": "training loss", "validation_loss": "validation loss", "effective_rank": "effective rank"}
    ends = [f"{label} {last[name]:.3g}" for name, label in known.items() if name in training_history]
    text = f"After {training_history['epoch'].nunique()} epochs: {', '.join(ends)}."
    caption = "Loss with learning rate, the k-NN probe on annotated synapses, and the effective rank of the features."
    return Section("Training", [text], [Picture(training_figure(training_history, traits), caption)], part="appendix")


def describe_views(pairs: Drawing, config: PretrainingConfig) -> Section:
    """Show the augmented views that are contrasted."""
    text = (
        "Sixteen synapses drawn at random, each with two random views. Training pulls the two views of a synapse "
        "together and pushes those of others apart, so the encoder learns what the views have in common."
    )
    caption = "Each synapse, then two views of it: the section with most cleft of the chunk and of each view."
    if config.positives.kind == "same_neurite":
        caption += " Both views are of the synapse itself; training also pairs it with others of its neurites."
    if config.augmentation.channel_organization == "separate":
        caption += " Views: presynaptic side magenta, postsynaptic side green, what both channels hold grey."
    return Section("What the network sees", [text], [Picture(pairs, caption)], part="appendix")
