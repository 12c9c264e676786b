"""`--env=published` as a user runs it, against a bucket that is laid out as the published one."""

import json
import os
import sys
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest
import torch
import warm_process

from synapseclr.augmentation import AugmentationConfig, Augmenter
from synapseclr.errors import VolumeError
from synapseclr.volumes import ChunkSource, ChunkStore, PreprocessingConfig, import_chunks

PROJECT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def run(published_bucket, small_configuration, tmp_path_factory):
    root = tmp_path_factory.mktemp("outputs")

    def run(*arguments):
        command = [sys.executable, "-m", "kedro", "run", "--env=published", f"--conf-source={small_configuration}"]
        command += [*arguments, f"--params=data_root={root},published_root={published_bucket.root}"]
        variables = os.environ | {
            "MLFLOW_TRACKING_URI": f"sqlite:///{root}/mlflow.db",
            "MLFLOW_ARTIFACT_ROOT": str(root / "mlartifacts"),
            "COLUMNS": "300",
        }
        done = warm_process.run(command, cwd=PROJECT, env=variables, timeout=300)
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]

    run.root = root
    return run


@pytest.fixture(scope="module")
def outputs(run):
    """Preprocessing and embedding, run once."""
    run("--pipelines=preprocessing,embedding")
    return run.root


def test_chunks_and_annotations_are_imported(outputs, published_bucket):
    store = ChunkStore(str(outputs / "02_intermediate/synapse_chunks.zarr"))
    np.testing.assert_array_equal(store.read(slice(None)), published_bucket.chunk_ncxyz)
    metadata = pd.read_parquet(outputs / "03_primary/synapse_metadata.parquet")
    assert metadata["synapse_id"].tolist() == published_bucket.meta["synapse_id"].tolist()
    for name in ("pre_synaptic_volume", "post_synaptic_volume", "synaptic_cleft_volume", "n_cutout_sections"):
        np.testing.assert_allclose(metadata[name], published_bucket.meta[name])
    roots = published_bucket.synapses.set_index("id")["pre_root_id"].loc[metadata["synapse_id"]]
    assert metadata["pre_root_id"].tolist() == roots.tolist()
    annotations = pd.read_parquet(outputs / "03_primary/annotations.parquet")
    expected = published_bucket.meta_ext["cleft_size_log1p_zscore"]
    np.testing.assert_allclose(annotations["cleft_size_log1p_zscore"], expected)
    report = json.loads((outputs / "08_reporting/preprocessing_report.json").read_text())
    assert (report["n_chunks"], report["n_rejected"], report["n_synapses_without_files"]) == (12, 0, 2)


def test_the_published_checkpoint_embeds_them(outputs, published_bucket):
    embeddings = anndata.read_zarr(outputs / "07_model_output/synapse_embeddings.zarr")
    augmentation = AugmentationConfig(
        fidelity="published", final_crop_size=20, final_img_size=16, cutout_size_min=2, cutout_size_max=5
    )
    view = Augmenter(augmentation.for_extraction())(torch.from_numpy(published_bucket.chunk_ncxyz))
    with torch.inference_mode():
        expected = published_bucket.model.eval()(view.intensity_bcxyz)
    np.testing.assert_allclose(embeddings.X, expected["encoder.fc"], rtol=1e-4, atol=1e-5)
    assert embeddings.uns["provenance"]["weights_source"] == "model_checkpoint_99.pt"


def test_published_features_are_analysed_without_training(outputs, run, published_bucket):
    run(
        "--pipelines=published_features,manifold,similarity,imputation",
        "--to-nodes=project_synapses,find_neighbours,score_traits",
    )
    embeddings = anndata.read_zarr(outputs / "07_model_output/synapse_embeddings.zarr")
    np.testing.assert_array_equal(embeddings.X, published_bucket.features["encoder.fc"])
    neighbours = pd.read_parquet(outputs / "07_model_output/nearest_neighbours.parquet")
    assert set(neighbours["neighbour_synapse_id"]) <= set(published_bucket.meta["synapse_id"])
    assert anndata.read_zarr(outputs / "07_model_output/synapse_manifold.zarr").obsm["X_umap"].shape == (12, 2)
    assert (outputs / "08_reporting/unscored_traits.csv").stat().st_size


def test_a_bucket_that_is_not_there_is_named(gcs_endpoint):
    source = ChunkSource("processed_chunks", "gs://synapseclr-absent/processed", storage_options={"token": "anon"})
    with pytest.raises(VolumeError, match=r"gs://synapseclr-absent/processed/meta.csv does not exist"):
        import_chunks(source, pd.DataFrame({"id": [1]}), PreprocessingConfig())
