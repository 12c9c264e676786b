"""The analysis pipelines, run on small data in memory."""

from importlib import import_module

import numpy as np
import pandas as pd
from anndata import AnnData
from kedro.io import DataCatalog, MemoryDataset
from kedro.runner import SequentialRunner

from synapseclr.analysis.config import (
    ConsensusConfig,
    GaussianProcessConfig,
    ImputationConfig,
    LeakageConfig,
    ManifoldConfig,
    OcclusionConfig,
    SimilarityConfig,
)
from synapseclr.analysis.features import FeaturesConfig
from synapseclr.analysis.morphometry import MORPHOMETRY_LABELS
from synapseclr.analysis.neuroglancer import NeuroglancerConfig
from synapseclr.analysis.outliers import OutliersConfig
from synapseclr.analysis.row_blocks import HERE
from synapseclr.augmentation import AugmentationConfig
from synapseclr.models import EncoderWeights, ModelConfig
from synapseclr.pipelines import (
    consensus,
    embedding,
    features,
    imputation,
    manifold,
    outliers,
    preprocessing,
    pretraining,
    reporting,
    similarity,
)
from synapseclr.plotting.report import ReportingConfig
from synapseclr.training import EmbeddingConfig, PretrainingConfig
from synapseclr.volumes import TRAITS
from synapseclr.volumes.imported_chunks import QueryChunks

N_SYNAPSES = 90
CONFIGS = {
    "manifold": ManifoldConfig,
    "similarity": SimilarityConfig,
    "outliers": OutliersConfig,
    "imputation": ImputationConfig,
    "consensus": ConsensusConfig,
    "features": FeaturesConfig,
    "reporting": ReportingConfig,
}
PIPELINES = {
    "manifold": manifold,
    "similarity": similarity,
    "outliers": outliers,
    "imputation": imputation,
    "consensus": consensus,
    "features": features,
    "reporting": reporting,
}
PARAMETERS = {
    "manifold": ManifoldConfig(n_components=8, n_neighbours=10, n_epochs=20, leakage=LeakageConfig(n_permutations=20)),
    "similarity": SimilarityConfig(n_neighbours=3, n_queries=2),
    "outliers": OutliersConfig(n_candidates=8, n_drawn=4, n_draws=3, accept=(2**60 + 1,)),
    "imputation": ImputationConfig(
        label_fractions=(0.01, 0.5),
        n_label_draws=1,
        gaussian_processes=GaussianProcessConfig(n_seeds=1, with_masks=False),
    ),
    "consensus": ConsensusConfig(label_fractions=(0.3, 0.01), n_label_seeds=1),
    "features": FeaturesConfig(
        n_components=3, n_drawn_components=2, n_examples=2, n_draws=50, occlusion=OcclusionConfig(n_synapses=0)
    ),
    "reporting": ReportingConfig(n_examples=4, dpi=50),
}
PRETRAINING = PretrainingConfig(
    augmentation=AugmentationConfig(axial_to_sagittal_spacing=2.5).resized(12, 12, cutout_size_max=5)
)
SCALES = pd.DataFrame(
    {
        "trait": ["cleft_size_log1p_zscore"],
        "raw_column": ["cleft_size_vx"],
        "transform": ["log1p_zscore"],
        "location": [5.0],
        "scale": [0.5],
    }
)
TABLES = {
    "imputation.imputing": (
        "imputed_traits",
        "held_out_predictions",
        "imputation_scores",
        "imputation_calibration",
        "unimputed_traits",
    ),
    "imputation.learning_curves": ("learning_curves",),
    "consensus": (
        "neurite_cell_types",
        "held_out_neurites",
        "consensus_evaluation",
        "censored_consensus",
        "censored_failures",
    ),
    "confusions": ("class_confusions",),
    "neurite_classes": ("neurite_classes", "held_out_neurite_classes", "neurite_class_evaluation"),
    "search": ("similarity_results", "distance_histograms", "nearest_neighbours", "index_recall"),
    "handcrafted": ("mask_statistics",),
    "outliers": (
        "outlier_scores",
        "outlier_candidates",
        "excluded_synapses",
        "outlier_detection",
    ),
}
SCHEMAS = {module: import_module(f"synapseclr.analysis.{module}") for module in TABLES}


class MemoryStore:
    """Stands in for the chunk store."""

    voxel_size_nm = (16.0, 16.0, 40.0)
    chunk_size_vx = (12, 12, 4)
    sha256 = "of no file"

    def __init__(self, synapse_id):
        rng = np.random.default_rng(0)
        self.synapse_id = synapse_id
        self.chunk_ncxyz = rng.integers(0, 256, (len(synapse_id), 2, 12, 12, 4), dtype=np.uint8)
        self.chunk_ncxyz[:, 1] %= 4

    def __len__(self):
        return len(self.synapse_id)

    def read(self, indices):
        return self.chunk_ncxyz[indices]


class Kept(MemoryDataset):
    """Outlives the run, so that tests can look at it."""

    def __init__(self, *data):
        super().__init__(*data, copy_mode="assign")

    def _release(self):
        pass


def simulated_embeddings(signal, seed, annotated=True):
    """Embeddings whose first feature tells the presynaptic cell type, as far as ``signal`` is large."""
    rng = np.random.default_rng(0)
    synapse_id = np.arange(N_SYNAPSES) + 2**60
    neurite_n = rng.permutation(np.arange(N_SYNAPSES) % 30)
    obs = pd.DataFrame(
        {
            "synapse_id": synapse_id,
            "pre_root_id": neurite_n + 2**60,
            "post_root_id": neurite_n[::-1] + 2**61,
            "synaptic_cleft_volume": 100.0,
            "n_cutout_sections": 0,
            "is_padded": False,
            "cleft_size_log1p_zscore": rng.normal(size=N_SYNAPSES) if annotated else np.nan,
            "pre_cell_type": (neurite_n % 2).astype(float) if annotated else np.nan,
        }
    )
    obs.index = obs["synapse_id"].astype(str).to_numpy()
    noise = np.random.default_rng(seed)
    features_nf = noise.normal(size=(N_SYNAPSES, 24)).astype(np.float32)
    features_nf[:, 0] += signal * np.nan_to_num(obs["pre_cell_type"])
    layers = {"projector.mlp.0": features_nf[:, :16].copy(), "projector.mlp.3": features_nf[:, :8].copy()}
    return AnnData(X=features_nf, obs=obs, obsm=layers, uns={"provenance": {"weights_sha256": "abc"}})


def _morphometry(synapse_id):
    rng = np.random.default_rng(0)
    sizes = {name: rng.uniform(1, 2, len(synapse_id)) for name in MORPHOMETRY_LABELS}
    return pd.DataFrame({"synapse_id": synapse_id, **sizes}).assign(is_cleft_at_border=False)


def _truth(embeddings):
    """The features of the first six synapses are made to stand out, and these are called defective."""
    embeddings.X[:6] *= 5.0
    defect = np.where(np.arange(N_SYNAPSES) < 6, "blackout", None)
    return pd.DataFrame({"synapse_id": embeddings.obs["synapse_id"].to_numpy(), "defect": defect})


def _no_encoder():
    raise AssertionError("weights are read although there is no external chunk")


def analysis_inputs(embeddings, annotated=True, traits=TRAITS):
    """Inputs of the pipelines, by name of the catalog's entry."""
    history = pd.DataFrame({"epoch": [0, 1], "train_loss": [2.0, 1.0], "validation_loss": [2.1, 1.2]})
    return {
        "synapse_embeddings": embeddings,
        "embedding_provenance": embeddings.uns["provenance"],
        "random.synapse_embeddings": simulated_embeddings(0.0, 2, annotated),
        "other_representations": {"imported": simulated_embeddings(5.0, 3, annotated)[::-1]},
        "synapse_chunks": MemoryStore(embeddings.obs["synapse_id"].to_numpy()),
        "synapse_morphometry": _morphometry(embeddings.obs["synapse_id"].to_numpy()),
        "training_history": history,
        "input_check": {"layers": [{"role": "EM volume", "uri": "gs://bucket/em"}]},
        "preprocessing_report": {"n_chunks": N_SYNAPSES, "rejected": {"5": "no cleft"}},
        "pipeline_seconds": {"pretraining": 61.5},
        "annotation_scales": SCALES,
        "parameters": PARAMETERS,
        **{f"params:{name}": config for name, config in PARAMETERS.items()},
        "synapse_metadata": embeddings.obs[["synapse_id", "pre_root_id", "post_root_id"]],
        "annotations": embeddings.obs.drop(columns=["pre_root_id", "post_root_id"]),
        "params:pretraining": PRETRAINING,
        "params:embedding": EmbeddingConfig(device="cpu"),
        "params:neuroglancer": NeuroglancerConfig(),
        "params:traits": traits,
        "simulation_truth": _truth(embeddings) if annotated else pd.DataFrame(),
        "accepted_defects": pd.DataFrame(),
        "params:row_blocks": HERE,
        "random_convolution.embedding_shards": None,
        "query_chunks": QueryChunks(),
        "feature_index_folder": "unused",
        "query_encoder": _no_encoder,
        "encoder_weights": EncoderWeights({}, ModelConfig(), {"chunks_sha256": MemoryStore.sha256}),
    }


def run_in_memory(pipeline, inputs):
    """A catalog with everything that a pipeline wrote."""
    catalog = DataCatalog({name: Kept(data) for name, data in inputs.items()})
    for name in pipeline.all_outputs():
        catalog[name] = Kept()
    SequentialRunner().run(pipeline, catalog)
    return catalog


def run_analyses(annotated=True):
    """A catalog with everything that the pipelines wrote."""
    pipeline = sum((PIPELINES[name].create_pipeline() for name in PIPELINES), start=manifold.create_pipeline())
    pipeline += preprocessing.create_pipeline().only_nodes(
        "plot_preprocessing", "plot_morphometry", "describe_preprocessing"
    )
    pipeline += pretraining.create_pipeline().only_nodes("draw_augmented_pairs", "describe_pretraining")
    pipeline += embedding.create_pipeline().only_nodes("describe_embedding")
    return run_in_memory(pipeline, analysis_inputs(simulated_embeddings(20.0, 1, annotated), annotated))
