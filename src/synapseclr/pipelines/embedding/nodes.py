"""Nodes of the embedding pipeline."""

from __future__ import annotations

from typing import Any

import pandas as pd

from synapseclr import __version__
from synapseclr.analysis.representations import is_simulated
from synapseclr.models import EncoderWeights
from synapseclr.models.encoders import SINGLE_CONVOLUTION
from synapseclr.pipelines import AnnData
from synapseclr.plotting.report import ReportingConfig, Section, embedding_digests, pipeline_section
from synapseclr.storage.sharded_anndata import ShardedMatrix
from synapseclr.training import EmbeddingConfig, PretrainingConfig
from synapseclr.training.positives import annotation_provenance, leakage_warning
from synapseclr.volumes import ChunkStore

_LAYERS = {"projector.mlp.0": "the projector's middle", "projector.mlp.3": "the projector's end"}


def initialise_encoder(synapse_chunks: ChunkStore, pretraining: PretrainingConfig) -> EncoderWeights:
    """Make the untrained encoder: the weights that training starts from, batch norms calibrated on the chunks."""
    from synapseclr.training import untrained_weights

    return untrained_weights(pretraining.model, synapse_chunks, pretraining)


def initialise_convolution(synapse_chunks: ChunkStore, pretraining: PretrainingConfig) -> EncoderWeights:
    """Make the cheapest rival of an encoder: one untrained convolution, averaged."""
    from synapseclr.training import untrained_weights

    model = pretraining.model.model_copy(update={"encoder": SINGLE_CONVOLUTION})
    return untrained_weights(model, synapse_chunks, pretraining)


def embed_synapses(
    encoder_weights: EncoderWeights,
    synapse_chunks: ChunkStore,
    synapse_metadata: pd.DataFrame,
    annotations: pd.DataFrame,
    pretraining: PretrainingConfig,
    embedding: EmbeddingConfig,
    embedding_shards: str | None = None,
) -> AnnData | ShardedMatrix:
    """Embed every synapse: backbone in ``X``, projector layers in ``obsm``, metadata and annotations in ``obs``.

    With ``embedding_shards``, a folder that all processes share, features are written there shard by shard, and an
    interrupted run is continued; without, they are returned in memory.

    ``obs["rotation_spread"]`` says how much a synapse's features depend on its pose, where several poses are averaged.

    Raises:
        ConfigurationError: If the weights take other channels than pretraining's augmentation makes, or were trained at
            another scale and ``embedding.resample_to_weights`` is off.
    """
    from anndata import AnnData

    from synapseclr.training import adapted_weights, embed_store, embed_to_shards
    from synapseclr.training.extraction import check_channels
    from synapseclr.training.view_scale import fitted_augmentation

    check_channels(encoder_weights.model, pretraining.augmentation)
    augmentation = fitted_augmentation(
        encoder_weights.provenance,
        pretraining.augmentation,
        synapse_chunks.voxel_size_nm,
        embedding.resample_to_weights,
    )
    used, adaptation = encoder_weights, {}
    if embedding.batch_norm == "these_chunks":
        fitted = pretraining.model_copy(update={"augmentation": augmentation})
        used = adapted_weights(encoder_weights, synapse_chunks, fitted)
        adaptation = {"batch_norm_views": augmentation.model_dump_json()}
    layers: dict[str, Any] = {}
    if embedding_shards is None:
        layers = embed_store(used.build(), synapse_chunks, augmentation, embedding)
        spread_n = layers.pop("rotation_spread", None)
    else:
        shards, spread_n = embed_to_shards(
            used.build(), synapse_chunks, augmentation, embedding, embedding_shards, used.sha256
        )
    obs = synapse_metadata.merge(annotations, on="synapse_id", how="left", validate="one_to_one")
    if spread_n is not None:
        obs["rotation_spread"] = spread_n
    obs.index = obs["synapse_id"].astype(str).to_numpy()
    provenance = {
        "weights_sha256": encoder_weights.sha256,
        "chunks_sha256": synapse_chunks.sha256,
        "model": encoder_weights.model.model_dump_json(),
        "augmentation": augmentation.for_extraction().model_dump_json(),
        "poses": embedding.poses.model_dump_json(),
        **adaptation,
        "synapseclr_version": __version__,
        **{f"weights_{name}": value for name, value in encoder_weights.provenance.items()},
        **annotation_provenance(encoder_weights.provenance, synapse_metadata, annotations, synapse_chunks.sha256),
    }
    uns = {"provenance": provenance, "layer_of_X": "encoder.fc"}
    if embedding_shards is not None:
        return ShardedMatrix(shards, obs, uns)
    return AnnData(X=layers.pop("encoder.fc"), obs=obs, obsm=layers, uns=uns)


def describe_embedding(synapse_embeddings: AnnData, config: ReportingConfig) -> dict[str, Any]:
    """Write the report's section on the embeddings; the sections of the analyses have to be about the same ones.

    What the provenance says against taking scores for those of unknown neurites becomes a warning of the report.
    """
    provenance = dict(synapse_embeddings.uns.get("provenance", {}))
    warning = leakage_warning(provenance)
    others = [
        f"{values.shape[1]} of {_LAYERS[name]}" for name, values in synapse_embeddings.obsm.items() if name in _LAYERS
    ]
    text = [
        f"{synapse_embeddings.n_obs:,} synapses, each described by {synapse_embeddings.n_vars} features of the "
        f"backbone{' (besides these, ' + ' and '.join(others) + ')' if others else ''}."
    ]
    if "rotation_spread" in synapse_embeddings.obs:
        text.append(
            "They are means over poses. Features of a single pose would differ from these by "
            f"{synapse_embeddings.obs['rotation_spread'].median():.2f} standard deviations between synapses (root mean "
            "square over the features, median over the synapses)."
        )
    if is_simulated(provenance):
        text.append("They were drawn from latent axes, as the traits were; no image and no encoder took part.")
    if "batch_norm_views" in provenance:
        text.append("The statistics of the encoder's batch norms were taken anew from views of these synapses.")
    return pipeline_section(
        [Section("Embedding", text, part="appendix")],
        config,
        made_from=embedding_digests(provenance),
        warnings=[warning] if warning else [],
        facts={"provenance": {str(name): str(value) for name, value in provenance.items()}},
        evaluation={"n_synapses": int(synapse_embeddings.n_obs)},
    )
