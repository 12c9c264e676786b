"""Traits of one's own, with several classes, from annotations to the report."""

import json

import numpy as np
import pandas as pd
import pytest
from analyses_in_memory import (
    N_SYNAPSES,
    PARAMETERS,
    SCHEMAS,
    TABLES,
    analysis_inputs,
    run_in_memory,
    simulated_embeddings,
)

from synapseclr.analysis.config import GaussianProcessConfig, ImputationConfig
from synapseclr.pipelines import consensus, features, imputation, manifold, reporting
from synapseclr.pipelines.reporting import PIPELINES
from synapseclr.volumes import Traits, transform_annotations

TRANSMITTERS = ["acetylcholine", "GABA", "glutamate", "dopamine", "serotonin", "octopamine"]
CELL_TYPES = [f"type {number}" for number in range(20)]
TAGS = ["spine", "shaft", "soma"]
TRAITS = Traits.model_validate(
    [
        {"name": "pre_cell_type", "kind": "multiclass", "classes": CELL_TYPES, "side": "pre", "level": "neurite"},
        {
            "name": "transmitter",
            "kind": "multiclass",
            "classes": TRANSMITTERS,
            "column": "nt_type",
            "not_annotated": ["unknown"],
            "side": "pre",
            "level": "neurite",
        },
        {"name": "tag", "kind": "multiclass", "classes": TAGS, "side": "post"},
        {"name": "n_vesicles", "kind": "count", "side": "pre", "unit": "vesicles"},
    ]
)
IMPUTATION = ImputationConfig(
    n_fold_draws=1,
    penalties=(0.1,),
    label_fractions=(0.5,),
    n_label_draws=1,
    compare_by_gaussian_process=False,
    gaussian_processes=GaussianProcessConfig(n_seeds=1, n_iterations=5, with_masks=False, compare_synapse_folds=False),
)


def annotated_embeddings():
    """Sixty neurites, three of each cell type; the features tell the classes, and a soma is annotated once."""
    embeddings = simulated_embeddings(0.0, 1)
    rng = np.random.default_rng(0)
    neurite_n = rng.permutation(np.arange(N_SYNAPSES) % 60)
    type_n, tag_n = neurite_n % 20, rng.integers(0, 2, N_SYNAPSES)
    tag_n[0] = 2
    nt_n = np.array([*TRANSMITTERS, "unknown"], dtype=object)[type_n % 6]
    nt_n[:5] = "unknown"
    raw = pd.DataFrame(
        {
            "syn_id": embeddings.obs["synapse_id"].to_numpy(),
            "pre_cell_type": np.array(CELL_TYPES)[type_n],
            "nt_type": nt_n,
            "tag": np.array(TAGS)[tag_n],
            "n_vesicles": rng.poisson(np.exp(3 + embeddings.X[:, 0])),
        }
    )
    annotations = transform_annotations(raw, raw["syn_id"], TRAITS)
    obs = embeddings.obs.drop(columns=["pre_cell_type", "cleft_size_log1p_zscore"])
    obs = obs.assign(pre_root_id=neurite_n + 2**60)
    obs = obs.merge(annotations.traits, on="synapse_id").set_index(obs.index)
    centres = np.random.default_rng(1).normal(size=(20, 24))
    embeddings.X += (2.5 * centres[type_n] + np.outer(tag_n, 5.0 * (np.arange(24) > 17))).astype(np.float32)
    embeddings.obs = obs
    return embeddings, annotations.scales


@pytest.fixture(scope="module")
def catalog():
    embeddings, scales = annotated_embeddings()
    pipeline = imputation.create_pipeline() + consensus.create_pipeline()
    pipeline += features.create_pipeline().to_outputs("component_traits", "trait_summaries")
    pipeline += manifold.create_pipeline().to_outputs("manifold_overlays", "axis_profiles")
    pipeline += reporting.create_pipeline()
    inputs = analysis_inputs(embeddings, traits=TRAITS) | {"annotation_scales": scales, "params:imputation": IMPUTATION}
    inputs["params:consensus"] = PARAMETERS["consensus"]
    inputs |= {f"{name}_section": {} for name in PIPELINES if f"{name}_section" not in pipeline.all_outputs()}
    return run_in_memory(pipeline, inputs)


def test_several_classes_are_scored_by_their_mean_auc(catalog):
    evaluation = catalog.load("evaluation")
    json.dumps(evaluation, allow_nan=False)
    scores = evaluation["representations"]["synapseclr"]["encoder.fc"]
    assert {name: score["metric"] for name, score in scores.items()} == {
        "pre_cell_type": "macro_auc",
        "transmitter": "macro_auc",
        "tag": "macro_auc",
        "n_vesicles": "explained_variance",
    }
    assert min(scores[name]["mean"] for name in ("pre_cell_type", "transmitter", "tag")) > 0.85
    untrained = evaluation["representations"]["random"]["encoder.fc"]
    assert untrained["pre_cell_type"]["mean"] < 0.65
    metrics = catalog.load("evaluation_metrics")
    assert metrics["synapseclr/encoder.fc/transmitter/macro_auc"] == scores["transmitter"]["mean"]
    assert metrics["gaussian_processes/pre_cell_type/by_neurite/balanced_accuracy"] > 0.8
    table = catalog.load("trait_scores")
    assert table.loc[table["trait"] != "n_vesicles", "balanced_accuracy"].between(0, 1).all()


def test_a_rare_class_is_named_and_left_out(catalog):
    for name in ("unscored_traits", "unimputed_traits"):
        row = catalog.load(name).set_index("trait").loc["tag: soma"]
        assert row["n_annotated"] == 1
        assert row["reason"] == "class 'soma' occurs on 1 neurites, 3 folds need 3; it is left out"
    assert "tag: soma" in catalog.load("report")
    assert "tag_soma_probability" not in catalog.load("imputed_traits")


def test_every_synapse_has_a_probability_of_every_class(catalog):
    imputed = catalog.load("imputed_traits")
    columns = [f"transmitter_{name}_probability" for name in TRANSMITTERS]
    np.testing.assert_allclose(imputed[columns].sum(axis=1), 1.0)
    best = np.array(TRANSMITTERS)[imputed[columns].to_numpy().argmax(axis=1)]
    assert imputed["transmitter_class"].tolist() == best.tolist()
    assert imputed["transmitter_is_annotated"].sum() == N_SYNAPSES - 5
    assert (imputed["n_vesicles_measured_mean"] > 0).all()


def test_confusions_count_every_held_out_synapse(catalog):
    table = catalog.load("class_confusions")
    assert table.groupby("trait")["n"].sum().to_dict() == {
        "pre_cell_type": N_SYNAPSES,
        "transmitter": N_SYNAPSES - 5,
        "tag": N_SYNAPSES - 1,
    }
    np.testing.assert_allclose(table.groupby(["trait", "true_class"])["share"].sum(), 1.0)
    right = table[table["true_class"] == table["predicted_class"]]
    held_out = catalog.load("evaluation")["gaussian_processes"]["tag"]["by_neurite"]
    assert right[right["trait"] == "tag"]["n"].sum() / (N_SYNAPSES - 1) == pytest.approx(held_out["accuracy"])


def test_neurites_have_classes_of_every_property(catalog):
    table = catalog.load("neurite_classes")
    np.testing.assert_allclose(table.groupby(["property", "root_id"])["probability"].sum(), 1.0)
    counts = table.groupby("property")["class_name"].nunique()
    assert counts.to_dict() == {"cell_type": 20, "transmitter": 6}
    evaluation = catalog.load("neurite_class_evaluation").set_index(["property", "stratum", "method"])
    assert evaluation.loc[("transmitter", "all", "corrected"), "accuracy"] > 0.8
    assert catalog.load("evaluation_metrics")["consensus/transmitter/all/corrected/accuracy"] > 0.8
    assert catalog.load("neurite_cell_types").empty  # there is no property with two classes


def test_figures_and_report_tell_of_the_classes(catalog):
    report = catalog.load("report")
    for text in ("Neurites: transmitter", "Neurites: cell type", "mean ROC AUC of classes", "balanced accuracy"):
        assert text in report
    legends = [axes.get_legend() for axes in catalog.load("manifold_overlays").axes if axes.get_legend()]
    assert [len(legend.get_texts()) for legend in legends][:3] == [20, 6, 3]
    assert set(catalog.load("axis_profiles")["trait"]) >= {"transmitter_GABA", "n_vesicles", "tag_spine"}
    assert "tag_shaft" in set(catalog.load("trait_summaries")["trait"])
    components = catalog.load("component_traits").set_index(["component", "trait"])
    assert components.loc[(1, "tag_shaft"), "rho"] ** 2 > 0.25
    assert len(catalog.load("class_confusion_figure").axes) >= 3


def test_tables_fit_their_schemas(catalog):
    for module in ("imputation.imputing", "imputation.learning_curves", "consensus", "confusions", "neurite_classes"):
        for name in TABLES[module]:
            validated = getattr(SCHEMAS[module], name.upper()).validate(catalog.load(name))
            assert len(validated) == len(catalog.load(name)), name
