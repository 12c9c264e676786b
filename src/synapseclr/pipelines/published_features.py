"""Features that were computed elsewhere, in the form of our embeddings: node and pipeline."""

from __future__ import annotations

import logging

import pandas as pd
from kedro.pipeline import Node, Pipeline

from synapseclr import __version__
from synapseclr.analysis.representations import BACKBONE
from synapseclr.errors import TableError
from synapseclr.pipelines import AnnData
from synapseclr.pipelines.embedding.pipeline import describe_embeddings
from synapseclr.volumes import (
    PUBLISHED_TRAITS,
    FeatureFiles,
    PreprocessingConfig,
    Traits,
    check_synapse_table,
    join_features,
    transform_annotations,
)

logger = logging.getLogger(__name__)


_TABLES = {"published_metadata", "synapse_table", "annotation_table"}


def import_features(
    published_features: FeatureFiles,
    published_metadata: pd.DataFrame,
    synapse_table: pd.DataFrame,
    annotation_table: pd.DataFrame,
    config: PreprocessingConfig,
    traits: Traits = PUBLISHED_TRAITS,
) -> AnnData:
    """Give published features the form of ``synapse_embeddings``: backbone in ``X``, other layers in ``obsm``.

    Raises:
        TableError: If the features have no layer ``encoder.fc``, or do not fit the tables.
    """
    from anndata import AnnData

    features = published_features.read()
    if BACKBONE not in features.layers:
        raise TableError(
            f"The features in {published_features.url} have no layer {BACKBONE}, only "
            f"{', '.join(features.layers) or 'none'}. The analyses need it."
        )
    if features.n_duplicates:
        logger.info("%d rows of features were there more than once; the last of each was kept.", features.n_duplicates)
    synapses = check_synapse_table(synapse_table, config.position_unit_nm)
    obs, kept_n = join_features(features, published_metadata, synapses, config.position_unit_nm)
    annotations = transform_annotations(annotation_table, obs["synapse_id"], traits)
    if annotations.unknown_ids:
        logger.warning("%d annotated synapses have no features: they are left out.", len(annotations.unknown_ids))
    obs = obs.merge(annotations.traits, on="synapse_id", how="left", validate="one_to_one")
    obs.index = obs["synapse_id"].astype(str).to_numpy()
    layers = {name: features_nf[kept_n] for name, features_nf in features.layers.items()}
    provenance = {
        "features": published_features.url,
        "features_epoch": "the only one" if published_features.epoch is None else str(published_features.epoch),
        "n_duplicate_features": str(features.n_duplicates),
        "synapseclr_version": __version__,
    }
    return AnnData(X=layers.pop(BACKBONE), obs=obs, obsm=layers, uns={"provenance": provenance, "layer_of_X": BACKBONE})


def create_pipeline() -> Pipeline:
    """Feature files and tables -> embeddings; neither chunks nor weights are needed."""
    imported = Node(
        import_features,
        inputs=[
            "published_features",
            "published_metadata",
            "synapse_table",
            "annotation_table",
            "params:preprocessing",
            "params:traits",
        ],
        outputs="synapse_embeddings",
        name="import_features",
    )
    parameters = {"params:preprocessing", "params:traits"}
    baseline = Pipeline([imported], namespace="random", inputs=_TABLES, parameters=parameters)
    return Pipeline([imported, describe_embeddings(), baseline], tags="published_features")
