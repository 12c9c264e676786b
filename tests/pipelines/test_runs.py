"""Real runs through Kedro's command line, at a tiny size."""

import json
import re
import shutil
import sys
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from documentation import PROJECT, code_blocks, commands
from mlflow.tracking import MlflowClient

from synapseclr.augmentation import AugmentationConfig
from synapseclr.commands.export import export
from synapseclr.errors import ConfigurationError
from synapseclr.models import EncoderWeights, ModelConfig
from synapseclr.pipelines.embedding.nodes import embed_synapses
from synapseclr.training import EmbeddingConfig, PretrainingConfig
from synapseclr.training.throughput import WALL_CLOCK_METRICS

REPRESENTATIONS = {"synapseclr", "random", "random_convolution", "trivial_statistics", "mask_statistics"}
REPRESENTATIONS |= {"synapseclr+statistics"}

OUTPUTS = [
    "02_intermediate/synapse_chunks.zarr",
    "03_primary/synapse_metadata.parquet",
    "03_primary/annotations.parquet",
    "06_models/encoder_weights.safetensors",
    "07_model_output/synapse_embeddings.zarr",
    "08_reporting/evaluation.json",
    "08_reporting/report.html",
]


@pytest.fixture(scope="module")
def demo_run(demo):
    """The MLflow record of the demo."""
    client = MlflowClient(demo.variables["MLFLOW_TRACKING_URI"])
    experiment = client.get_experiment_by_name("synapseclr")
    runs = client.search_runs([experiment.experiment_id], order_by=["start_time ASC"])
    return client, runs[0]


@pytest.mark.parametrize("path", OUTPUTS)
def test_the_demo_leaves_its_outputs(demo, path):
    assert (demo.root / path).exists()


def test_the_evaluation_has_the_agreed_form(demo):
    evaluation = demo.report("evaluation.json")
    assert evaluation["n_synapses"] >= 10
    assert evaluation["epochs"] == 2
    assert {"simulation", "preprocessing", "pretraining", "embedding", "manifold"} <= set(evaluation["seconds"])
    assert set(evaluation["representations"]) == REPRESENTATIONS
    assert set(evaluation["representations"]["synapseclr"]) == {"encoder.fc", "projector.mlp.0", "projector.mlp.3"}
    scores = [
        s for layers in evaluation["representations"].values() for traits in layers.values() for s in traits.values()
    ]
    assert scores
    for score in scores:
        assert set(score) == {"metric", "mean", "std", "folds"}
        assert score["metric"] in {"roc_auc", "explained_variance"}


def test_a_run_of_some_pipelines_has_a_report_too(demo, tmp_path):
    copy = type(demo)(tmp_path)
    for name in ("preprocessing", "embedding"):
        (tmp_path / "08_reporting/sections").mkdir(parents=True, exist_ok=True)
        shutil.copy(demo.root / f"08_reporting/sections/{name}.json", tmp_path / "08_reporting/sections")
    printed = copy("--pipeline=reporting").stdout
    assert "Node 1 of 2, reporting: evaluate_run; 0 of 1 stages done (0:0" in printed
    last = [line.split(maxsplit=1) for line in printed.strip().splitlines()[-4:]]
    assert [name for name, _ in last] == ["Finished:", "Report:", "Runs:", "Next:"]
    assert last[0][1].startswith("reporting in 0:")
    assert f"{demo.report('evaluation.json')['n_synapses']} synapses" in last[0][1]
    assert Path(PROJECT, last[1][1]).is_file()
    assert last[3][1] == f"kedro explore --env=test --params='data_root={tmp_path}'"
    assert copy.report("evaluation.json")["n_synapses"] == demo.report("evaluation.json")["n_synapses"]
    html = (tmp_path / "08_reporting/report.html").read_text()
    assert html.count("Not run (") == 7
    assert "<h3>Data quality</h3>" in html


@pytest.mark.parametrize(("scheme", "width_px"), [("light", 1440), ("dark", 390)])
def test_axe_finds_nothing_serious_in_the_report(demo, browser, serious_findings, scheme, width_px):
    viewport = {"width": width_px, "height": 900}
    page = browser.new_page(color_scheme=scheme, viewport=viewport, reduced_motion="reduce")
    page.goto(f"file://{demo.root}/08_reporting/report.html")
    assert not serious_findings(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= width_px
    contents = page.get_by_role("navigation", name="Contents")
    contents.get_by_role("link", name="Outliers").click()
    assert 0 <= page.get_by_role("heading", name="Outliers").bounding_box()["y"] < 900
    assert 0 <= contents.bounding_box()["y"] < 10  # stays in view
    page.close()


def test_synapses_in_the_report_are_links_into_the_explorer(demo, browser):
    page = browser.new_page()
    page.goto(f"file://{demo.root}/08_reporting/report.html")
    drawn = pd.read_csv(demo.root / "07_model_output/outlier_candidates.csv").sort_values("rank")["synapse_id"].head(3)
    links = page.locator("#outliers .picture a")
    assert [links.nth(place).get_attribute("aria-label") for place in range(3)] == [f"synapse {one}" for one in drawn]
    assert links.first.get_attribute("href") == f"http://127.0.0.1:8050/#synapse={drawn.iloc[0]}"
    first, second = links.nth(0).bounding_box(), links.nth(1).bounding_box()
    assert first["x"] + first["width"] < second["x"]
    picture = page.locator("#outliers .picture img").first
    shown = picture.bounding_box()["width"] / picture.evaluate(
        "image => image.naturalWidth"
    )  # narrower pages shrink it
    assert first["width"] == pytest.approx(first["height"], rel=0.05) == pytest.approx(shown * 1.6 * 110, rel=0.05)
    page.close()


def test_embeddings_carry_layers_metadata_and_provenance(demo):
    embeddings = anndata.read_zarr(demo.root / "07_model_output/synapse_embeddings.zarr")
    metadata = pd.read_parquet(demo.root / "03_primary/synapse_metadata.parquet")
    assert embeddings.X.shape == (len(metadata), 904)
    assert embeddings.X.dtype == np.float32
    assert set(embeddings.obsm) == {"projector.mlp.0", "projector.mlp.3"}
    assert embeddings.obs["pre_root_id"].tolist() == metadata["pre_root_id"].tolist()
    assert embeddings.obs["pre_root_id"].min() > 2**53
    weights_file = demo.root / "06_models/encoder_weights.safetensors"
    weights = EncoderWeights.from_bytes(weights_file.read_bytes(), str(weights_file))
    assert embeddings.uns["provenance"]["weights_sha256"] == weights.sha256


def test_mlflow_has_flat_parameters_and_tags(demo_run):
    _, run = demo_run
    assert run.data.params["pretraining.model.encoder"] == "region_resnet"
    assert run.data.params["pretraining.augmentation.final_img_size"] == "16"
    assert run.data.params["preprocessing.chunk_size_vx"] == "[80, 80, 32]"
    assert run.data.tags["pipeline"] == "demo"
    assert run.data.tags["environment"] == "test"
    assert len(run.data.tags["data_sha256"]) == 64
    assert run.info.status == "FINISHED"


def test_neither_mlflow_nor_the_report_has_paths_of_this_machine(demo, demo_run):
    _, run = demo_run
    told = [str(run.data.tags), str(run.data.params), (demo.root / "08_reporting/report.html").read_text()]
    for private in (str(demo.root), sys.prefix):
        assert not [text for text in told if private in text], private
    assert _artifact(demo_run, "reporting/parameters.json")["data_root"] == f".../{demo.root.name}"


def _artifact(demo_run, path):
    client, run = demo_run
    return json.loads(Path(client.download_artifacts(run.info.run_id, path)).read_text())


def test_mlflow_shows_headline_figures_and_keeps_the_rest_in_files(demo_run):
    _, run = demo_run
    others = {name for name in run.data.metrics if not name.startswith(("pretraining/", "system/"))}
    assert {"summary/n_synapses", "summary/epochs", "summary/gain_over_untrained"} <= others
    assert all(name.startswith("summary/") for name in others)
    assert len(others) <= 25
    assert not [name for name in run.data.params if name.startswith("parameters.")]
    scores = _artifact(demo_run, "reporting/evaluation_metrics.json")
    shown = {name: value for name, value in run.data.metrics.items() if re.fullmatch(r"summary/\w+/\w+", name)}
    assert shown
    assert shown == {name: scores[name.replace("summary", "synapseclr/encoder.fc")] for name in shown}


def test_a_run_has_a_name_and_a_description_with_a_picture(demo_run):
    client, run = demo_run
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d demo, test", run.info.run_name)
    description = run.data.tags["mlflow.note.content"]
    assert f"{run.data.metrics['summary/n_synapses']:.0f} synapses, 2 epochs" in description
    (picture,) = re.findall(rf"get-artifact\?path=(\S+)&run_uuid={run.info.run_id}\)", description)
    assert picture in [item.path for item in client.list_artifacts(run.info.run_id, "reporting")]


def test_mlflow_has_metrics_of_every_epoch(demo_run):
    client, run = demo_run
    for name in ("train_loss", "validation_loss", "alignment", "uniformity", "effective_rank", "learning_rate"):
        history = client.get_metric_history(run.info.run_id, f"pretraining/{name}")
        assert [point.step for point in history] == [1, 2], name
    assert any(name.startswith("pretraining/knn_") for name in run.data.metrics)


def test_mlflow_has_throughput_and_system_metrics_of_a_training(demo_run):
    client, run = demo_run
    for name in set(WALL_CLOCK_METRICS) - {"gpu_memory_gb"}:
        history = client.get_metric_history(run.info.run_id, f"pretraining/{name}")
        assert [point.step for point in history] == [1, 2], name
    for name in ("cpu_utilization_percentage", "system_memory_usage_megabytes"):
        assert len(client.get_metric_history(run.info.run_id, f"system/{name}")) > 1


def test_mlflow_has_weights_figures_and_reports(demo_run):
    client, run = demo_run

    def files(path=None):
        for item in client.list_artifacts(run.info.run_id, path):
            yield from files(item.path) if item.is_dir else [item.path]

    assert {
        "model/encoder_weights.safetensors",
        "pretraining/training_curve.json",
        "pretraining/augmented_pairs.png",
        "reporting/report.html",
        "reporting/evaluation.json",
        "manifold/manifold_overlays.png",
        "similarity/similarity_strip.png",
    } <= set(files())


def test_synapses_are_searched_by_the_short_parameter(demo, tmp_path):
    copy = type(demo)(tmp_path)
    for folder in ("02_intermediate", "03_primary", "06_models", "07_model_output"):
        shutil.copytree(demo.root / folder, tmp_path / folder)
    ids = pd.read_parquet(tmp_path / "03_primary/synapse_metadata.parquet").synapse_id
    copy("--pipeline=similarity", f"--params=query={ids[3]}+{ids[7]}")
    found = pd.read_csv(tmp_path / "07_model_output/similarity_results.csv", dtype={"query": str})
    assert len(found)
    assert set(found["query"]) <= {f"{ids[3]}+{ids[7]}", str(ids[3]), str(ids[7])}


@pytest.mark.parametrize(
    ("parameter", "message"),
    [
        ("pretraining.epoch=3", "epoch"),
        ("pretraining.epochs=many", "epochs"),
        ("pretraining.augmentation.gaussian_blur_prob=2", "gaussian_blur_prob"),
        ("pretrainig.epochs=3", "Unknown parameter pretrainig"),
        ("augmentation=so4", "Choose one of: so3, dihedral, extract, display"),
        ("configuration=lars", "Unknown parameter configuration"),  # conf/microns has configurations to choose from
    ],
)
def test_a_wrong_parameter_ends_the_run_before_any_node(demo, parameter, message):
    done = demo("--pipeline=pretraining", f"--params={parameter}", check=False)
    printed = " ".join((done.stdout + done.stderr).split())
    assert done.returncode != 0
    assert message in printed
    assert "Node 1 of" not in printed


def test_a_missing_volume_ends_in_a_sentence(demo, tmp_path):
    copy = type(demo)(tmp_path)
    shutil.copytree(demo.root / "01_raw", tmp_path / "01_raw")
    shutil.rmtree(tmp_path / "01_raw/simulated/segmentation")
    done = copy("--pipeline=preprocessing", check=False)
    assert done.returncode != 0
    assert "Error: Nothing was cut, because the inputs cannot be right. The segmentation volume at" in done.stderr
    assert "cannot be opened" in done.stderr
    assert "Traceback" not in done.stdout + done.stderr


def test_weights_of_other_channels_end_in_a_sentence(demo):
    done = demo("--pipeline=embedding", "--params=pretraining.augmentation.channel_organization=merged", check=False)
    printed = " ".join(done.stderr.split())
    assert done.returncode != 0
    assert "take in_channels 2, but the augmentation makes images of channel_organization 'merged'" in printed


@pytest.mark.parametrize(("in_channels", "organization", "fix"), [(1, "separate", "merged"), (2, "merged", "separate")])
def test_the_channels_that_do_not_fit_are_named_with_the_fix(in_channels, organization, fix):
    config = ModelConfig(encoder="resnet18", width_factor=0.125, in_channels=in_channels)
    weights = EncoderWeights(dict(config.build(0).state_dict()), config, {})
    pretraining = PretrainingConfig(augmentation=AugmentationConfig(channel_organization=organization))
    message = (
        f"in_channels {in_channels}, .* channel_organization '{organization}'. .*"
        f"augmentation.channel_organization: {fix} and model.in_channels: {in_channels}"
    )
    with pytest.raises(ConfigurationError, match=message):
        embed_synapses(weights, None, None, None, pretraining, EmbeddingConfig())


def test_sizes_are_in_the_metadata_the_embeddings_and_a_table_for_spreadsheets(demo):
    sizes = pd.read_csv(demo.root / "08_reporting/synapse_morphometry.csv")
    metadata = pd.read_parquet(demo.root / "03_primary/synapse_metadata.parquet")
    obs = anndata.read_zarr(demo.root / "07_model_output/synapse_embeddings.zarr").obs
    np.testing.assert_allclose(sizes["cleft_area_nm2"], metadata["cleft_area_nm2"])
    by_id = sizes.set_index("synapse_id").loc[obs["synapse_id"]]
    np.testing.assert_allclose(by_id["contact_area_nm2"], obs["contact_area_nm2"])
    volume_vx = metadata["synaptic_cleft_volume"] / 2.5
    np.testing.assert_allclose(sizes["cleft_volume_um3"], volume_vx * 16 * 16 * 40 / 1e9)


def test_occlusion_explains_some_synapses_of_the_demo(demo):
    effects = pd.read_csv(demo.root / "08_reporting/occlusion_effects.csv")
    patches = pd.read_parquet(demo.root / "07_model_output/occlusion_patches.parquet")
    assert 1 <= effects["synapse_id"].nunique() <= 4
    assert set(patches["synapse_id"]) <= set(effects["synapse_id"])
    assert (effects["postsynaptic_distance"] > 0).all()


def test_exports_are_made_as_the_page_says(demo, tmp_path, monkeypatch):
    shown = [line.split()[3:] for line in commands("docs/outputs.md") if line.startswith("kedro synapseclr export")]
    assert {arguments[0] for arguments in shown} == {"csv", "neuroglancer", "cave", "webknossos"}
    monkeypatch.chdir(PROJECT)
    for arguments in shown:
        placed = [each.replace("--out=", f"--out={tmp_path}/") for each in arguments]
        result = CliRunner().invoke(export, [*placed, "--env=test", f"--params=data_root={demo.root}"])
        assert result.exit_code == 0, result.output
    monkeypatch.chdir(tmp_path)
    (code,) = code_blocks("docs/outputs.md", "python")
    seen = {}
    exec(code, seen)
    assert seen["table"].columns.tolist() == ["id", "target_id", "tag"]
    ids = anndata.read_zarr(demo.root / "07_model_output/synapse_embeddings.zarr").obs["synapse_id"]
    assert set(seen["table"]["target_id"]) <= set(ids)
    table = pd.read_parquet("results.parquet")
    assert table["synapse_id"].tolist() == ids.tolist()
    assert {"cleft_area_nm2", "pre_cell_type", "pre_root_id"} <= set(table)


def test_parquet_keeps_the_flags_and_types(demo):
    metadata = pd.read_parquet(demo.root / "03_primary/synapse_metadata.parquet")
    assert metadata["synapse_id"].dtype == np.int64
    assert metadata["is_padded"].dtype == bool
    assert json.dumps(demo.report("preprocessing_report.json"))
