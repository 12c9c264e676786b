"""The analysis pipelines on small data in memory, and their configuration."""

import json
import re
from pathlib import Path
from typing import get_type_hints

import numpy as np
import pandas as pd
import pytest
import yaml
from anndata import AnnData
from kedro.io import DataCatalog, MemoryDataset
from kedro.runner import SequentialRunner
from pydantic import ValidationError

from synapseclr.analysis.config import (
    ConsensusConfig,
    ImputationConfig,
    ReportingConfig,
    SimilarityConfig,
)
from synapseclr.analysis.consensus import schemas as consensus_schemas
from synapseclr.analysis.features import FeaturesConfig
from synapseclr.analysis.gaussian_processes.config import GaussianProcessConfig
from synapseclr.analysis.handcrafted import schemas as chunk_schemas
from synapseclr.analysis.imputation import schemas as imputation_schemas
from synapseclr.analysis.manifold import LeakageConfig, ManifoldConfig
from synapseclr.analysis.outliers import OutliersConfig
from synapseclr.analysis.outliers import schemas as outlier_schemas
from synapseclr.analysis.search import neighbours
from synapseclr.analysis.search import schemas as search_schemas
from synapseclr.analysis.search.neuroglancer import NeuroglancerConfig
from synapseclr.analysis.traits import TRAITS
from synapseclr.augmentation import AugmentationConfig
from synapseclr.errors import TableError
from synapseclr.pipelines import consensus, features, imputation, manifold, outliers, reporting, similarity
from synapseclr.pipelines.imputation.nodes import score_traits
from synapseclr.pipelines.reporting.provenance import flatten
from synapseclr.pipelines.similarity.nodes import (
    answer_queries,
    compare_indices,
    find_neighbours,
    index_features,
)
from synapseclr.pipelines.similarity.slabs import read_slabs
from synapseclr.training import PretrainingConfig
from synapseclr.volumes.query_chunks import QueryChunks

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
        label_fractions=(0.01, 0.5), n_label_draws=1, gaussian_processes=GaussianProcessConfig(n_seeds=1)
    ),
    "consensus": ConsensusConfig(label_fractions=(0.3, 0.01), n_label_seeds=1),
    "features": FeaturesConfig(n_components=3, n_drawn_components=2, n_examples=2, n_draws=50),
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
SCHEMAS = {
    "imputation": imputation_schemas,
    "consensus": consensus_schemas,
    "search": search_schemas,
    "handcrafted": chunk_schemas,
    "outliers": outlier_schemas,
}
TABLES = {
    "imputation": (
        "imputed_traits",
        "held_out_predictions",
        "imputation_scores",
        "imputation_calibration",
        "unimputed_traits",
        "learning_curves",
    ),
    "consensus": (
        "neurite_cell_types",
        "held_out_neurites",
        "consensus_evaluation",
        "censored_consensus",
        "censored_failures",
    ),
    "search": ("similarity_results", "distance_histograms", "index_recall"),
    "handcrafted": ("mask_statistics",),
    "outliers": (
        "outlier_scores",
        "outlier_candidates",
        "excluded_synapses",
        "outlier_detection",
    ),
}
DATA_ROOT = "${runtime_params:data_root,${globals:data_root}}"
CONF = Path(__file__).parents[2] / "conf" / "base"


class MemoryStore:
    """Stands in for the chunk store."""

    voxel_size_nm = (16.0, 16.0, 40.0)

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


def _embeddings(signal, seed, annotated=True):
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


def _truth(embeddings):
    """The features of the first six synapses are made to stand out, and these are called defective."""
    embeddings.X[:6] *= 5.0
    defect = np.where(np.arange(N_SYNAPSES) < 6, "blackout", None)
    return pd.DataFrame({"synapse_id": embeddings.obs["synapse_id"].to_numpy(), "defect": defect})


def _no_encoder():
    raise AssertionError("weights are read although there is no external chunk")


def _run(annotated=True):
    embeddings = _embeddings(20.0, 1, annotated)
    history = pd.DataFrame({"epoch": [0, 1], "train_loss": [2.0, 1.0], "validation_loss": [2.1, 1.2]})
    inputs = {
        "synapse_embeddings": embeddings,
        "random.synapse_embeddings": _embeddings(0.0, 2, annotated),
        "other_representations": {"imported": _embeddings(5.0, 3, annotated)[::-1]},
        "synapse_chunks": MemoryStore(embeddings.obs["synapse_id"].to_numpy()),
        "training_history": history,
        "preprocessing_report": {"n_chunks": N_SYNAPSES, "rejected": {"5": "no cleft"}},
        "pipeline_seconds": {"pretraining": 61.5},
        "annotation_scales": SCALES,
        "parameters": PARAMETERS,
        **{f"params:{name}": config for name, config in PARAMETERS.items()},
        "params:pretraining": PRETRAINING,
        "params:neuroglancer": NeuroglancerConfig(),
        "simulation_truth": _truth(embeddings) if annotated else pd.DataFrame(),
        "accepted_defects": pd.DataFrame(),
        "query_chunks": QueryChunks(),
        "query_encoder": _no_encoder,
    }
    pipeline = sum((PIPELINES[name].create_pipeline() for name in PIPELINES), start=manifold.create_pipeline())
    catalog = DataCatalog({name: Kept(data) for name, data in inputs.items()})
    for name in pipeline.all_outputs():
        catalog[name] = Kept()
    SequentialRunner().run(pipeline, catalog)
    return catalog


@pytest.fixture(scope="module")
def catalog():
    return _run()


def test_manifold_keeps_synapses_and_adds_coordinates(catalog):
    projected = catalog.load("synapse_manifold")
    assert projected.obsm["X_umap"].shape == (N_SYNAPSES, 2)
    assert projected.obsm["X_pca"].shape == (N_SYNAPSES, 8)
    assert set(projected.obs["cluster"]) <= {"none", *map(str, range(projected.uns["manifold"]["n_clusters"]))}
    pd.testing.assert_frame_equal(projected.obs.drop(columns="cluster"), catalog.load("synapse_embeddings").obs)
    assert projected.uns["manifold"]["n_neighbours"] == 10
    assert projected.uns["provenance"] == {"weights_sha256": "abc"}


def test_clusters_axes_and_leakage_are_tabulated(catalog):
    positions = catalog.load("axis_positions")
    sampled = (
        positions[positions["sample"] >= 0].sort_values("sample").groupby(["cluster", "axis"])["position"].apply(list)
    )
    assert all(np.diff(places).min() > 0 for places in sampled)
    assert len(catalog.load("manifold_axis_strip").axes) == sum(map(len, sampled))
    profiles = catalog.load("cluster_profiles")
    assert set(profiles["trait"]) == {"cleft_size_log1p_zscore", "pre_cell_type", "log10_cleft_volume"}
    assert catalog.load("axis_profiles")["lower_90"].notna().all()
    leakage = catalog.load("leakage_scores").set_index("effect")
    assert set(leakage["representation"]) == {"synapseclr", "random"}
    assert leakage.loc["cleft_tilt", "score"].notna().all()
    assert leakage.loc["position_x", "reason"].str.contains("known for 0 synapses").all()
    assert "manifold/leakage/synapseclr/encoder.fc/cleft_tilt/linear" in catalog.load("leakage_metrics")
    assert {trace.type for trace in catalog.load("manifold_scatter_3d").data} == {"scatter3d"}


def test_features_are_compared_with_traits(catalog):
    table = catalog.load("component_traits").set_index(["component", "trait"])
    first = table.loc[(1, "pre_cell_type")]
    assert abs(first["rho"]) > 0.8
    assert max(first["p_bonferroni"], first["p_benjamini_hochberg"]) < 0.001
    assert table["reason"].notna().sum() == 3 * 7
    examples = catalog.load("component_examples")
    assert examples.groupby(["component", "end"]).size().tolist() == [2] * 4
    assert len(catalog.load("component_strip").axes) == 2 * 4
    assert sorted(catalog.load("feature_clusters")["place"]) == list(range(24))
    assert catalog.load("spectrum_metrics")["features/synapseclr/encoder.fc/effective_rank"] > 1
    summaries = catalog.load("trait_summaries")
    assert set(summaries["combination"]) == {"all"}
    assert set(summaries["source"]) == {"measured", "imputed"}
    assert len(catalog.load("trait_posteriors").axes) == 2


def test_manifold_can_be_stored(catalog, tmp_path):
    catalog.load("synapse_manifold").write_zarr(tmp_path / "manifold.zarr")


def test_every_synapse_has_its_neighbours(catalog):
    table = catalog.load("nearest_neighbours")
    assert len(table) == 3 * N_SYNAPSES
    assert table["synapse_id"].dtype == np.int64
    assert table.groupby("is_drawn")["synapse_id"].nunique()[True] == 2
    assert len(catalog.load("similarity_strip").axes) == 2 * 4


def test_queries_are_answered_with_positions(catalog):
    results = catalog.load("similarity_results")
    assert results.groupby("query")["rank"].apply(list).tolist() == [[0, 1, 2, 3]] * 2
    assert results["neuroglancer_url"].isna().all()
    histograms = catalog.load("distance_histograms")
    assert (histograms.groupby("query")["n_synapses"].sum() == N_SYNAPSES - 1).all()
    assert catalog.load("index_recall")["recall"].min() > 0.9
    assert catalog.load("similarity_metrics")["similarity/recall/flat"] == 1.0


def test_known_defects_are_found_and_evaluated(catalog):
    candidates = catalog.load("outlier_candidates")
    assert len(catalog.load("outlier_scores")) == N_SYNAPSES
    assert set(candidates["synapse_id"]) >= {2**60 + row for row in range(6)}
    assert candidates["rank"].tolist() == list(range(1, 9))
    assert catalog.load("excluded_synapses")["synapse_id"].tolist() == [2**60 + 1]
    assert len(catalog.load("outlier_sheet").axes) == 4
    outliers = catalog.load("evaluation")["outliers"]
    assert outliers["outliers/synapseclr/encoder.fc/mahalanobis/roc_auc"] > 0.95
    assert outliers["outliers/synapseclr_and_masks/encoder.fc/examples_5/roc_auc"] > 0.6
    assert outliers["outliers/random/encoder.fc/examples_5/roc_auc"] < 0.95
    assert catalog.load("outlier_metrics") == outliers


def test_evaluation_has_the_agreed_form(catalog):
    evaluation = catalog.load("evaluation")
    assert (evaluation["n_synapses"], evaluation["epochs"]) == (N_SYNAPSES, 2)
    assert evaluation["seconds"] == {"pretraining": 61.5}
    assert set(evaluation["representations"]) == {"synapseclr", "random", "imported", "trivial_statistics"}
    assert set(evaluation["representations"]["synapseclr"]) == {"encoder.fc", "projector.mlp.0", "projector.mlp.3"}
    assert set(evaluation["representations"]["trivial_statistics"]) == {"statistics"}
    score = evaluation["representations"]["synapseclr"]["encoder.fc"]["pre_cell_type"]
    assert (score["metric"], score["folds"]) == ("roc_auc", 3)
    assert score["mean"] > 0.95 > evaluation["representations"]["random"]["encoder.fc"]["pre_cell_type"]["mean"]
    json.dumps(evaluation, allow_nan=False)
    assert catalog.load("evaluation_metrics")["synapseclr/encoder.fc/pre_cell_type/roc_auc"] == score["mean"]


def test_imputation_is_part_of_the_evaluation(catalog):
    evaluation = catalog.load("evaluation")["gaussian_processes"]
    assert set(evaluation) == {"cleft_size_log1p_zscore", "pre_cell_type"}
    assert evaluation["pre_cell_type"]["by_neurite"]["mean"] > 0.9
    assert evaluation["pre_cell_type"]["by_neurite"]["folds"] == 3
    assert {"mean", "std", "expected_calibration_error"} <= set(evaluation["pre_cell_type"]["by_synapse"])
    metrics = catalog.load("evaluation_metrics")
    assert 0.0 <= metrics["gaussian_processes/cleft_size_log1p_zscore/by_neurite/coverage_90"] <= 1.0
    imputed = catalog.load("imputed_traits")
    assert imputed["synapse_id"].tolist() == catalog.load("synapse_embeddings").obs["synapse_id"].tolist()
    assert imputed["cleft_size_vx_lower_90"].between(0, imputed["cleft_size_vx_upper_90"]).all()
    assert imputed["pre_cell_type_probability"].between(0, 1).all()


def test_every_neurite_has_a_posterior(catalog):
    neurites = catalog.load("neurite_cell_types")
    assert neurites["root_id"].is_unique
    assert set(neurites["root_id"]) == set(catalog.load("synapse_embeddings").obs["pre_root_id"])
    assert (neurites["n_post"] == 0).all()
    assert catalog.load("evaluation")["consensus"]["all"]["corrected"]["accuracy"] > 0.9
    assert "consensus/all/independent/log_loss" in catalog.load("evaluation_metrics")


def test_traits_without_a_score_are_listed(catalog):
    unscored = catalog.load("unscored_traits")
    assert set(unscored["trait"]) | set(catalog.load("trait_scores")["trait"]) == {trait.name for trait in TRAITS}


def test_report_is_complete_and_self_contained(catalog):
    html = catalog.load("report")
    for heading in (
        "Representation quality",
        "Imputed traits",
        "Cell types of neurites",
        "Cell types of neurites from few labels",
        "Traits by cell types",
        "Manifold",
        "Technical check",
        "Features",
        "Similar synapses",
        "Outliers",
        "Examples",
        "What the network sees",
        "In short",
        "What was run",
        "Training",
        "Data quality",
        "Provenance",
    ):
        assert f"<h2>{heading}</h2>" in html
    assert html.count("data:image/png;base64,") == 25
    assert not re.findall(r"""(?:src|href)\s*=\s*["']https?:""", html)
    assert "no such column in the annotations" in html
    assert "weights_sha256" in html
    assert "imputation.n_folds" in html
    assert "61.5" in html


def test_representations_are_compared_by_every_probe_and_in_one_table(catalog):
    comparison = catalog.load("evaluation")["comparison"]
    assert set(comparison) == {"linear", "knn", "gaussian_process"}
    assert comparison["gaussian_process"]["synapseclr"]["encoder.fc"]["pre_cell_type"]["mean"] > 0.9
    imported, random = (comparison["linear"][name]["encoder.fc"]["pre_cell_type"] for name in ("imported", "random"))
    assert imported["mean"] > random["mean"]  # its rows come in another order
    table = catalog.load("representation_comparison")
    assert table["representation"].unique().tolist() == ["synapseclr", "random", "imported", "trivial_statistics"]
    assert len(table) == 3 * (3 + 3 + 3 + 1)
    assert re.fullmatch(r"[01].\d{3} ± 0.\d{3}", table["presynaptic cell type"][0])


def test_learning_curves_are_logged_and_few_labels_are_reported(catalog):
    curves = catalog.load("learning_curves").set_index(["trait", "fraction"])
    assert curves.loc[("pre_cell_type", 0.5), "score"] > 0.8
    assert curves.loc[("pre_cell_type", 0.01), "reason"] == "1 training synapses, at least 4 needed"
    metrics = catalog.load("evaluation_metrics")
    assert metrics["learning_curves/pre_cell_type/50_percent/roc_auc"] > 0.8
    assert 0.5 < metrics["consensus/labels_30_percent/all/corrected/accuracy"] <= 1
    failures = catalog.load("censored_failures")
    assert failures["fraction"].tolist() == [0.01]
    assert "only one class among 1 labels" in failures["reason"][0]
    assert "only one class among 1 labels" in catalog.load("report")


def test_stored_tables_of_imputation_and_consensus_fit_their_schemas(catalog):
    for module, names in ((SCHEMAS[kind], names) for kind, names in TABLES.items()):
        for name in names:
            validated = getattr(module, name.upper()).validate(catalog.load(name))
            assert len(validated) == len(catalog.load(name)), name


def test_damaged_tables_are_named(catalog):
    held_out = catalog.load("held_out_predictions").assign(sd=-1.0)
    with pytest.raises(TableError, match="held-out predictions: sd is below 0 for synapse"):
        imputation_schemas.HELD_OUT_PREDICTIONS.validate(held_out)
    neurites = catalog.load("neurite_cell_types").assign(cell_type=0.5)
    with pytest.raises(TableError, match=r"table of neurites: cell_type is none of \[0.0, 1.0\]"):
        consensus_schemas.NEURITE_CELL_TYPES.validate(neurites)


def test_report_comes_out_without_annotations():
    catalog = _run(annotated=False)
    assert catalog.load("evaluation")["representations"] == {}
    assert catalog.load("evaluation_metrics") == {}
    assert "No trait could be scored" in catalog.load("report")
    assert "No trait could be imputed" in catalog.load("report")
    assert "No defects are known in these data" in catalog.load("report")
    assert catalog.load("outlier_detection").empty
    assert catalog.load("outlier_metrics") == {}
    assert list(catalog.load("imputed_traits")) == ["synapse_id"]
    assert "No neurite was typed" in catalog.load("report")
    for module, names in ((SCHEMAS[kind], names) for kind, names in TABLES.items()):
        for name in names:
            getattr(module, name.upper()).validate(catalog.load(name))
    assert catalog.load("trait_summaries").empty
    assert catalog.load("component_traits")["reason"].notna().all()
    assert set(catalog.load("axis_profiles")["trait"]) == {"log10_cleft_volume"}


def test_embeddings_of_other_synapses_are_refused():
    trained, other = _embeddings(1.0, 1), _embeddings(1.0, 2)[:50]
    statistics = pd.DataFrame({"synapse_id": trained.obs["synapse_id"]})
    with pytest.raises(TableError, match=r"'random.synapse_embeddings' lacks 40 synapses"):
        score_traits(trained, other, {}, statistics, ImputationConfig())


def test_unknown_queries_are_refused():
    config = SimilarityConfig(n_neighbours=2, query=17)
    embeddings = _embeddings(1.0, 1)
    index = index_features(embeddings, config)
    for node in (find_neighbours, lambda *inputs: answer_queries(*inputs, NeuroglancerConfig())):
        with pytest.raises(TableError, match=r"similarity.query names synapses without embedding: \[17\]"):
            node(embeddings, index, {}, config)


def test_the_index_of_all_synapses_is_built_once(monkeypatch):
    """For neighbours, queries and recall together; recall builds the other kind once more to compare."""
    built = []
    original = neighbours.build_index
    monkeypatch.setattr(neighbours, "build_index", lambda nf, kind: built.append(kind) or original(nf, kind))
    config = SimilarityConfig(n_neighbours=2, n_queries=2, index="ivf")
    embeddings = _embeddings(1.0, 1)
    index = index_features(embeddings, config)
    find_neighbours(embeddings, index, {}, config)
    answer_queries(embeddings, index, {}, config, NeuroglancerConfig())
    recall, _ = compare_indices(index, config)
    assert built == ["ivf", "hnsw"]
    assert recall.loc[recall["is_used"], "index"].tolist() == ["ivf"]


def test_a_synapse_without_chunk_is_refused():
    with pytest.raises(TableError, match=r"1 synapses have no chunk in the store, such as \[3\]"):
        read_slabs(MemoryStore(np.array([1, 2])), np.array([1, 3]))


def test_parameters_are_flattened():
    flat = flatten({"imputation": ImputationConfig(), "data_root": "data", "nested": {"deep": {"x": 1}}})
    assert flat["imputation.n_folds"] == 3
    assert (flat["data_root"], flat["nested.deep.x"]) == ("data", 1)


@pytest.mark.parametrize("name", CONFIGS)
def test_configured_parameters_are_valid(name):
    unresolved = (CONF / name / "parameters.yml").read_text()
    # As Kedro resolves it in a run without --params.
    parameters = yaml.safe_load(re.sub(r"\$\{runtime_params:\w+,(\w+)\}", r"\1", unresolved))
    assert list(parameters) == [name]
    assert set(parameters[name]) == set(CONFIGS[name].model_fields)
    CONFIGS[name].model_validate(parameters[name])
    with pytest.raises(ValidationError, match="misspelt"):
        CONFIGS[name].model_validate({**parameters[name], "misspelt": 1})


@pytest.mark.parametrize("name", PIPELINES)
def test_node_hints_resolve_so_that_kedro_validates_parameters(name):
    for node in PIPELINES[name].create_pipeline().nodes:
        hints = get_type_hints(node.func)
        if f"params:{name}" in node.inputs:
            assert CONFIGS[name] in hints.values()


@pytest.mark.parametrize("name", PIPELINES)
def test_every_output_is_in_the_catalog_below_the_data_root(name):
    entries = yaml.safe_load((CONF / name / "catalog.yml").read_text())
    assert entries.pop("_results") == "${runtime_params:results_root,${runtime_params:data_root,${globals:data_root}}}"
    assert entries.pop("_data", DATA_ROOT) == DATA_ROOT
    outputs = PIPELINES[name].create_pipeline().all_outputs()
    assert outputs <= set(entries)
    stored = [entries[output]["filepath"] for output in outputs if entries[output]["type"] != "MemoryDataset"]
    assert all(re.match(r"\$\{_results\}/0\d_\w+/", filepath) for filepath in stored)
    layers = {entry["metadata"]["kedro-viz"]["layer"] for entry in entries.values()}
    assert layers <= {"primary", "feature", "models", "model_output", "reporting"}
