"""Datasets that are only read say why they cannot be saved."""

import pytest
from kedro.io import DatasetError

from synapseclr.datasets import (
    AnnDataFolderDataset,
    ChunkSourceDataset,
    FeatureFilesDataset,
    FolderDataset,
    NoTrainingDataset,
    OmeZarrVolumeDataset,
    PublishedCheckpointDataset,
    QueryChunksDataset,
)


@pytest.mark.parametrize(
    ("dataset", "reason"),
    [
        (AnnDataFolderDataset(filepath="a/{b}"), "a/{b} is filled by hand"),
        (ChunkSourceDataset(kind="volumes"), "A chunk source is read"),
        (FeatureFilesDataset(filepath="a"), "Published features are read"),
        (FolderDataset(filepath="a"), "a is a folder that nodes write into"),
        (NoTrainingDataset(), "no training history to save"),
        (OmeZarrVolumeDataset(filepath="gs://bucket/em.zarr"), "gs://bucket/em.zarr is an OME-Zarr volume"),
        (PublishedCheckpointDataset(filepath="a.pt", model={}), "a.pt holds published weights"),
        (QueryChunksDataset(), "A query is read"),
    ],
)
def test_saving_is_refused_with_the_reason(dataset, reason):
    with pytest.raises(DatasetError, match=reason):
        dataset.save(object())
