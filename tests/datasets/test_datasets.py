"""Volumes, features and other datasets of the catalog."""

import anndata
import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from kedro.io import DatasetError

from synapseclr.datasets import (
    AnnDataFolderDataset,
    AnnDataZarrDataset,
    EncoderWeightsDataset,
    FolderDataset,
    OptionalProvenanceDataset,
    PrecomputedVolumeDataset,
)
from synapseclr.models import EncoderWeights, ModelConfig
from synapseclr.volumes.layers.layer import VolumeArray


def test_a_volume_comes_back_as_it_was_saved(tmp_path):
    array = np.random.default_rng(0).integers(0, 2**60, (40, 33, 9), dtype=np.uint64)
    dataset = PrecomputedVolumeDataset(filepath=str(tmp_path / "seg"), layer_type="segmentation", role="segmentation")
    assert not dataset.exists()
    dataset.save(VolumeArray(array, (16.0, 16.0, 40.0)))
    assert dataset.exists()
    layer = dataset.load().at_resolution((16, 16, 40))
    np.testing.assert_array_equal(layer.read(np.array([0, 0, 0]), np.array(array.shape)), array)


def test_saving_a_volume_replaces_an_older_one(tmp_path):
    dataset = PrecomputedVolumeDataset(filepath=str(tmp_path / "em"), layer_type="image")
    dataset.save(VolumeArray(np.full((300, 8, 8), 1, np.uint8), (16, 16, 40)))
    dataset.save(VolumeArray(np.full((20, 8, 8), 2, np.uint8), (8, 8, 40)))
    layer = dataset.load().at_resolution((8, 8, 40))
    assert layer.upper_vx.tolist() == [20, 8, 8]


def test_a_folder_with_other_files_is_not_overwritten(tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    dataset = PrecomputedVolumeDataset(filepath=str(tmp_path), layer_type="image")
    with pytest.raises(DatasetError, match="holds files but no precomputed volume"):
        dataset.save(VolumeArray(np.zeros((8, 8, 8), np.uint8), (16, 16, 40)))
    assert (tmp_path / "thesis.tex").exists()


def test_an_unknown_layer_type_is_refused():
    with pytest.raises(DatasetError, match="choose image or segmentation"):
        PrecomputedVolumeDataset(filepath="x", layer_type="mesh")


@pytest.mark.parametrize("location", ["local", "memory"])
def test_anndata_round_trip_keeps_ids_and_infinities(tmp_path, location):
    path = str(tmp_path / "a.zarr") if location == "local" else "memory://bucket/a.zarr"
    obs = pd.DataFrame(
        {"pre_root_id": [648_518_346_349_500_001, 2], "trait": [-np.inf, np.nan], "flag": [True, False]},
        index=["7", "9"],
    )
    data = anndata.AnnData(np.ones((2, 3), np.float32), obs=obs, obsm={"projector.mlp.0": np.zeros((2, 2))})
    dataset, provenance = AnnDataZarrDataset(filepath=path), OptionalProvenanceDataset(filepath=path)
    assert provenance.load() == {}
    dataset.save(data)
    assert provenance.load() == {}
    data.uns["provenance"] = {"seed": "0", "weights_sha256": "abc"}
    dataset.save(data)  # replaces
    assert provenance.load() == {"seed": "0", "weights_sha256": "abc"}
    read = dataset.load()
    assert dataset.exists()
    assert read.obs["pre_root_id"].tolist() == [648_518_346_349_500_001, 2]
    assert read.obs["trait"][0] == -np.inf
    assert list(read.obsm) == ["projector.mlp.0"]
    assert read.obs_names.tolist() == ["7", "9"]


@pytest.mark.parametrize("location", ["local", "memory"])
def test_weights_round_trip(tmp_path, location):
    path = str(tmp_path / "deep/w.safetensors") if location == "local" else "memory://bucket/w.safetensors"
    model = ModelConfig(encoder="resnet18", width_factor=0.125, projection_dims=(16, 8))
    weights = EncoderWeights(dict(model.build(0).state_dict()), model, {"seed": "0"})
    dataset = EncoderWeightsDataset(filepath=path)
    dataset.save(weights)
    assert dataset.load().sha256 == weights.sha256


def test_a_folder_is_made_when_it_is_asked_for(tmp_path):
    path = FolderDataset(filepath=str(tmp_path / "a/b")).load()
    assert (tmp_path / "a/b").is_dir()
    assert path == str(tmp_path / "a/b")


def test_a_folder_cannot_be_saved(tmp_path):
    with pytest.raises(DatasetError, match="cannot be saved"):
        FolderDataset(filepath=str(tmp_path)).save("something")


def test_everything_in_the_folder_is_read_by_name(tmp_path):
    for name, value in (("medicalnet", 1.0), ("imported", 2.0)):
        AnnDataZarrDataset(filepath=f"{tmp_path}/{name}.zarr").save(AnnData(X=np.full((3, 2), value, np.float32)))
    (tmp_path / "notes.txt").write_text("not an embedding")
    found = AnnDataFolderDataset(filepath=str(tmp_path)).load()
    assert list(found) == ["imported", "medicalnet"]
    assert found["imported"].X[0, 0] == 2.0


def test_no_folder_means_no_further_representation(tmp_path):
    assert AnnDataFolderDataset(filepath=f"{tmp_path}/absent").load() == {}


def test_the_folder_is_filled_by_hand(tmp_path):
    with pytest.raises(DatasetError, match="copy the embeddings"):
        AnnDataFolderDataset(filepath=str(tmp_path)).save({})
