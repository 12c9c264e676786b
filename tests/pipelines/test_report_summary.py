"""The sentences on top of the report say what the numbers say, and no more."""

import re

import pandas as pd
import pytest

from synapseclr.augmentation import AugmentationConfig
from synapseclr.errors import SynapseCLRError
from synapseclr.pipelines.imputation.nodes import describe_quality
from synapseclr.pipelines.reporting import (
    PIPELINES,
    compose_report,
    describe_run,
    describe_setting,
    evaluate_run,
    is_clearly_above,
    summarise_run,
)
from synapseclr.plotting.report import ReportingConfig, Section, embedding_digests, pipeline_section
from synapseclr.plotting.theme import new_figure
from synapseclr.training import PretrainingConfig
from synapseclr.volumes import TRAITS

SIMULATED = {"simulation": '{"n_synapses": 1200}', "synapseclr_version": "0.1.0"}


def _score(mean, std=0.02):
    return {"metric": "roc_auc", "mean": mean, "std": std, "folds": 3}


def _evaluation(**blocks):
    return {"n_synapses": 1200, "epochs": 10, "representations": {}} | blocks


def test_a_difference_counts_only_beyond_the_spread_over_folds():
    assert is_clearly_above(_score(0.75), _score(0.70))
    assert not is_clearly_above(_score(0.75, 0.05), _score(0.70, 0.05))


def test_better_worse_and_level_traits_are_told_apart():
    trained = {"pre_cell_type": _score(0.8), "post_cell_type": _score(0.6), "has_mito_pre": _score(0.55)}
    rival = {"pre_cell_type": _score(0.6), "post_cell_type": _score(0.8), "has_mito_pre": _score(0.54)}
    masks = {"pre_cell_type": _score(0.9), "post_cell_type": _score(0.5), "has_mito_pre": _score(0.3)}
    representations = {
        "synapseclr": {"encoder.fc": trained},
        "random": {"encoder.fc": rival},
        "mask_statistics": {"statistics": masks},
    }
    sentences = summarise_run(_evaluation(representations=representations), {"n_rejected": 3, "n_neurites": 40})
    assert "1,200 synapses of 40 neurites" in sentences[0]
    assert "3 more could not be cut" in sentences[0]
    assert "better on 1 (presynaptic cell type), worse on 1 (postsynaptic cell type), and on 1" in sentences[1]
    assert "better on 2 (postsynaptic cell type, presynaptic mitochondria), worse on 1" in sentences[2]
    assert "the best of all that costs no training, of 3 traits the trained encoder is better on none" in sentences[3]
    assert len(sentences) == 4
    simulated = summarise_run(_evaluation(representations=representations), {}, provenance=SIMULATED)
    assert simulated[0] == "Features and traits of 1,200 synapses were simulated, without images."
    assert (
        "Against the simulated untrained features, of 3 traits the simulated features are better on 1" in simulated[1]
    )
    assert "encoder" not in " ".join(simulated)


def test_the_table_says_what_learning_adds_to_the_strongest_rival():
    means = {"synapseclr": 0.9, "random": 0.8, "mask_statistics": 0.95, "synapseclr+statistics": 0.99}
    rows = [
        {"representation": name, "layer": "statistics" if name == "mask_statistics" else "encoder.fc", "probe": probe}
        | {"trait": "pre_cell_type", **_score(mean)}
        for name, mean in means.items()
        for probe in ("linear", "knn")
    ]
    unscored = pd.DataFrame(columns=["label", "n_annotated", "reason"])
    table = describe_quality(pd.DataFrame(rows), unscored, new_figure(1, 1), "linear").tables[0]
    cells = dict(zip(table.columns, table.rows[0], strict=True))
    assert cells["learning adds"] == "-0.050 (mask statistics)"
    assert cells["one untrained convolution"] == ""
    simulated = describe_quality(pd.DataFrame(rows), unscored, new_figure(1, 1), "linear", provenance=SIMULATED)
    assert list(simulated.tables[0].columns[2:4]) == ["simulated features", "simulated untrained features"]
    assert "encoder was trained" in simulated.text[0]
    without_rivals = pd.DataFrame([row for row in rows if row["representation"] == "synapseclr"])
    assert describe_quality(without_rivals, unscored, new_figure(1, 1), "linear").tables[0].rows[0][-1] == ""


def test_without_annotations_nothing_is_claimed():
    sentences = summarise_run(_evaluation(), {})
    assert sentences[1] == "No trait was annotated often enough to say how good the representation is."


def test_defects_are_told_for_each_way_of_searching():
    found = {
        "outliers/synapseclr/encoder.fc/mahalanobis/roc_auc": 0.95,
        "outliers/mask_statistics/statistics/mahalanobis/roc_auc": 0.985,
        "outliers/synapseclr_and_masks/encoder.fc/mahalanobis/roc_auc": 0.991,
        "outliers/synapseclr/encoder.fc/knn/roc_auc": 0.5,
    }
    sentence = summarise_run(_evaluation(outliers=found), {})[1]
    assert "0.991 by learned features joined with statistics of the masks, 0.950 by learned features alone" in sentence
    assert sentence.endswith("and 0.985 by statistics of the masks alone (0.5 is chance).")
    features_only = {name: score for name, score in found.items() if "mask" not in name}
    assert (
        "a ROC AUC of 0.950 by learned features alone (0.5" in summarise_run(_evaluation(outliers=features_only), {})[1]
    )


def test_provenance_is_a_table_of_words_not_of_json():
    images = AugmentationConfig(final_crop_size=64, final_img_size=48).for_extraction()
    provenance = {
        "augmentation": images.model_dump_json(),
        "model": '{"encoder":"resnet18","projection_dims":[128,64]}',
        "weights_sha256": "abc",
    }
    tables = describe_run({"embedding": 1.0}, provenance, {}).tables
    origin, steps = dict(tables[1].rows), dict(tables[2].rows)
    assert origin == {"model.encoder": "resnet18", "model.projection_dims": "128, 64", "weights_sha256": "abc"}
    assert steps["steps on"] == "active zone"
    assert "rotation" in steps["steps off"]
    assert (steps["final crop size"], steps["final img size"]) == ("64", "48")
    assert "gaussian blur sigmas" not in steps  # of a step that is off
    assert "{" not in str(tables)
    turned = AugmentationConfig().model_dump_json()
    assert "gaussian blur sigmas" in dict(describe_run({}, {"augmentation": turned}, {}).tables[1].rows)


def test_provenance_made_elsewhere_is_kept_as_it_is():
    tables = describe_run({}, {"augmentation": "by hand", "model": "{broken"}, {}).tables
    assert tables[1].rows == [["augmentation", "by hand"], ["model", "{broken"]]


@pytest.mark.parametrize("layout", ["merged", "separate"])
def test_the_setting_is_told_in_physical_units(layout):
    augmentation = AugmentationConfig(channel_organization=layout)
    config = PretrainingConfig(augmentation=augmentation, model={"in_channels": 1 if layout == "merged" else 2})
    found = {"chunk_size_vx": [256, 256, 52], "voxel_size_nm": [8.0, 8.0, 40.0]}
    rows = dict(describe_setting(found, config).tables[0].rows)
    assert rows["chunk"].endswith("2.05 x 2.05 x 2.08 µm")
    assert rows["what the encoder sees"].startswith("a cube of 1.54 µm as 96³ voxels")
    assert ("separate channels" in rows["what the encoder sees"]) == (layout == "separate")


def _report(**parts):
    ordered = [parts.get(name, {}) for name in PIPELINES]
    evaluation, _ = evaluate_run({"embedding": 60.0}, *ordered)
    return compose_report(evaluation, {}, PretrainingConfig(), ReportingConfig(), TRAITS, *ordered)


def _part(title, made_from, **others):
    return pipeline_section([Section(title, ["What it says."])], made_from=made_from, **others)


def test_a_run_of_some_pipelines_has_a_report():
    html = _report(embedding=_part("Embedding", {}, evaluation={"n_synapses": 7}))
    assert "<dd>7</dd>" in html
    for name in ("preprocessing", "pretraining", "imputation", "outliers"):
        assert f"Not run (kedro run --pipeline={name})." in html
    assert "--pipeline=embedding)" not in html
    assert re.findall(r"<h3>([^<]+)", html)[-4:-1] == ["What was run", "Data quality", "Training"]
    for claim in ("No trait was annotated", "none was rejected", "<dt>epochs"):
        assert claim not in html


def test_synapses_are_counted_by_the_embedding_or_else_by_an_analysis():
    parts = {"imputation": _part("Imputed traits", {}, evaluation={"n_synapses": 6})}
    assert "<dd>6</dd>" in _report(**parts)
    assert "<dd>7</dd>" in _report(**parts, embedding=_part("Embedding", {}, evaluation={"n_synapses": 7}))


def test_without_any_section_nothing_is_overwritten_by_an_empty_report():
    with pytest.raises(SynapseCLRError, match="nothing to report yet"):
        _report()


def test_sections_about_other_embeddings_say_that_they_are_older():
    old = embedding_digests({"weights_sha256": "old", "chunks_sha256": "c", "synapseclr_version": "1"})
    now = embedding_digests({"weights_sha256": "new", "chunks_sha256": "c", "synapseclr_version": "2"})
    parts = {
        "preprocessing": _part("Data quality", {"chunks": "c"}),
        "pretraining": _part("Training", {"weights": "new", "chunks": "c"}),
        "embedding": _part("Embedding", now),
        "manifold": _part("Manifold", old),
        "similarity": _part("Similar synapses", now | {"chunks": "c"}),
    }
    html = _report(**parts)
    note = "Of an earlier run, with other weights and embeddings (kedro run --pipeline=manifold renews it)."
    assert html.count(note) == 2  # on top, and below the heading
    assert html.count("Of an earlier run") == 2
    again = {"synapseclr_version": "3", "chunks_sha256": "c", "weights_sha256": "new"}
    assert embedding_digests(again) == now


def test_warnings_of_the_pipelines_stand_on_top():
    html = _report(preprocessing=_part("Data quality", {}, warnings=["Half of the synapses <look> wrong."]))
    top = html[: html.index("<h3>")]
    assert "Half of the synapses &lt;look&gt; wrong." in top
