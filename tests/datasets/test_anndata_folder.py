"""Embeddings of further representations in a folder."""

import numpy as np
import pytest
from anndata import AnnData
from kedro.io import DatasetError

from synapseclr.datasets import AnnDataFolderDataset, AnnDataZarrDataset


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
