"""What the analysis pipelines give on small data in memory."""

import json
import re

import numpy as np
import pandas as pd
import pytest
from analyses_in_memory import (
    N_SYNAPSES,
    PARAMETERS,
    SCHEMAS,
    TABLES,
    analysis_inputs,
    run_analyses,
    run_in_memory,
    simulated_embeddings,
)
from matplotlib.figure import Figure
from matplotlib.text import Text

from synapseclr.analysis.consensus import NEURITE_CELL_TYPES
from synapseclr.analysis.imputation.imputing import HELD_OUT_PREDICTIONS
from synapseclr.analysis.row_blocks import RowBlocksConfig
from synapseclr.analysis.traits import TRAITS
from synapseclr.datasets import AnnDataZarrDataset
from synapseclr.errors import TableError
from synapseclr.pipelines import features, manifold
from synapseclr.pipelines.manifold.nodes import describe_plane
from synapseclr.plotting.report import PARTS
from synapseclr.plotting.theme import SMALL_PT, WIDEST_IN

REPRESENTATIONS = {"synapseclr", "random", "random_convolution", "trivial_statistics", "mask_statistics"}
REPRESENTATIONS |= {"synapseclr+statistics"}


@pytest.fixture(scope="module")
def catalog():
    return run_analyses()


def test_manifold_keeps_synapses_and_adds_coordinates(catalog):
    projected = catalog.load("synapse_manifold")
    assert projected.obsm["X_umap"].shape == (N_SYNAPSES, 2)
    assert projected.obsm["X_pca"].shape == (N_SYNAPSES, 8)
    assert set(projected.obs["cluster"]) <= {"none", *map(str, range(projected.uns["manifold"]["n_clusters"]))}
    pd.testing.assert_frame_equal(projected.obs.drop(columns="cluster"), catalog.load("synapse_embeddings").obs)
    assert projected.uns["manifold"]["n_neighbours"] == 10
    assert projected.uns["provenance"] == {"weights_sha256": "abc"}


def test_manifold_and_features_in_blocks_are_those_in_memory(catalog, tmp_path):
    def stored(name, data):
        dataset = AnnDataZarrDataset(filepath=str(tmp_path / f"{name}.zarr"), in_memory=False)
        dataset.save(data)
        return dataset.load()

    inputs = analysis_inputs(simulated_embeddings(20.0, 1))
    inputs |= {name: stored(name, inputs[name]) for name in ("synapse_embeddings", "random.synapse_embeddings")}
    inputs |= {
        "params:manifold": PARAMETERS["manifold"].model_copy(update={"n_fitted": 40, "three_dimensions": False}),
        "params:row_blocks": RowBlocksConfig(rows=30, folder=str(tmp_path / "row_blocks")),
    }
    steps = manifold.create_pipeline() + features.create_pipeline()
    projected = stored(
        "synapse_manifold", run_in_memory(steps.only_nodes("project_synapses"), inputs).load("synapse_manifold")
    )
    np.testing.assert_array_equal(projected.X, inputs["synapse_embeddings"].X)
    expected_np = catalog.load("synapse_manifold").obsm["X_pca"]
    np.testing.assert_allclose(projected.obsm["X_pca"], expected_np, atol=1e-4 * np.abs(expected_np).max())  # float32
    assert projected.uns["manifold"]["n_fitted"] == 40
    names = ("describe_clusters", "draw_manifold_clusters", "orient_clefts", "check_leakage", "arrange_features")
    names += ("measure_spectra", "compare_components", "draw_feature_correlations", "explain_by_occlusion")
    found = run_in_memory(steps.only_nodes(*names), inputs | {"synapse_manifold": projected})
    for name in ("leakage_scores", "feature_clusters", "feature_tree", "layer_spectra"):
        pd.testing.assert_frame_equal(found.load(name), catalog.load(name), rtol=1e-5, atol=1e-6, obj=name)
    rho_t, expected_t = (of.load("component_traits")["rho"] for of in (found, catalog))
    np.testing.assert_allclose(rho_t, expected_t, atol=1e-3)  # ranks of two nearly equal synapses may be swapped
    positions = found.load("axis_positions")
    assert 0 < positions["synapse_id"].nunique() < N_SYNAPSES
    assert (positions["sample"] >= 0).any()
    plane = describe_plane(projected, *[found.load("manifold_clusters")] * 4, None)
    assert "fitted on 40 of the 90 synapses" in plane.text[0]


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
    assert set(evaluation["representations"]) == {"imported", *REPRESENTATIONS}
    assert set(evaluation["representations"]["synapseclr"]) == {"encoder.fc", "projector.mlp.0", "projector.mlp.3"}
    assert set(evaluation["representations"]["trivial_statistics"]) == {"statistics"}
    score = evaluation["representations"]["synapseclr"]["encoder.fc"]["pre_cell_type"]
    assert (score["metric"], score["folds"]) == ("roc_auc", 9)
    interval = evaluation["comparison"]["linear"]["synapseclr"]["encoder.fc"]["pre_cell_type"]
    assert interval["low"] <= interval["mean"] <= interval["high"]
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
        "Embedding",
    ):
        assert f"<h{2 if heading == 'In short' else 3}>{heading}</h" in html
    assert html.count("data:image/webp;base64,") == 26
    assert not re.findall(r"""(?:src|<link[^>]+href)\s*=\s*["']https?:""", html)
    headings = re.findall(r"<h2[^>]*>([^<]+)", html)
    assert headings == ["Warnings", "In short", *PARTS.values()]
    assert html.index("<h3>Similar synapses") < html.index("<h3>Representation quality") < html.index("<h3>Training")
    for told in ("<dt>made</dt>", "<dt>data set</dt><dd>gs://bucket/em</dd>", "<dt>commit</dt>"):
        assert told in html
    assert "no such column in the annotations" in html
    assert "weights_sha256" in html
    assert "imputation.n_folds" in html
    assert "61.5" in html


def test_figures_fit_the_page_and_can_be_read(catalog):
    figures = {name: data for name in catalog if isinstance(data := catalog.load(name), Figure)}
    assert len(figures) > 20
    for name, figure in figures.items():
        figure.set_layout_engine("none")
        figure.draw_without_rendering()
        assert figure.get_size_inches()[0] <= WIDEST_IN + 1e-6, name
        texts = [text for text in figure.findobj(Text) if text.get_visible() and text.get_text().strip()]
        assert not [text.get_text() for text in texts if text.get_fontsize() < SMALL_PT], name


def test_representations_are_compared_by_every_probe_and_in_one_table(catalog):
    comparison = catalog.load("evaluation")["comparison"]
    assert set(comparison) == {"linear", "knn", "gaussian_process"}
    assert comparison["gaussian_process"]["synapseclr"]["encoder.fc"]["pre_cell_type"]["mean"] > 0.9
    imported, random = (comparison["linear"][name]["encoder.fc"]["pre_cell_type"] for name in ("imported", "random"))
    assert imported["mean"] > random["mean"]  # its rows come in another order
    table = catalog.load("representation_comparison")
    rivals = ["random", "random_convolution", "imported", "trivial_statistics", "mask_statistics"]
    assert table["representation"].unique().tolist() == ["synapseclr", *rivals, "synapseclr+statistics"]
    assert len(table) == 3 * (3 + 3 + 3 + 4 * 1)
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
        HELD_OUT_PREDICTIONS.validate(held_out)
    neurites = catalog.load("neurite_cell_types").assign(cell_type=0.5)
    with pytest.raises(TableError, match=r"table of neurites: cell_type is none of \[0.0, 1.0\]"):
        NEURITE_CELL_TYPES.validate(neurites)


def test_report_comes_out_without_annotations(caplog):
    with caplog.at_level("WARNING", "synapseclr"):
        catalog = run_analyses(annotated=False)
    warned = sorted(text for text in caplog.messages if "traits are" in text)
    assert [text.partition(" (")[0] for text in warned] == [
        *(
            f"{n} traits are {outcome}"
            for n in (2, 7)
            for outcome in ("not imputed", "not scored", "without a learning curve")
        ),
        "9 traits are not compared with all components",
    ]
    assert all("pre_cell_type): no synapse is annotated. Annotate " in text for text in warned[:3])
    assert all("and 1 more): no such column in the annotations. " in text for text in warned[3:6])
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
