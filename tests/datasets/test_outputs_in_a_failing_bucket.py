"""Outputs of embedding and analysis in a bucket that fails now and then, or altogether."""

import logging
import re

import anndata
import numpy as np
import pandas as pd
import pytest
from gcs_faults import faults, short_pauses
from kedro.io import DatasetError

from synapseclr.datasets import AnnDataZarrDataset, EncoderWeightsDataset, ParquetDataset
from synapseclr.models import EncoderWeights, ModelConfig

ANONYMOUS = {"token": "anon"}
PASSING = [{"unavailable": 0.1}, {"reset": 0.1}, {"truncated": 0.1}]
LASTING = [{"unavailable": 1.0}, {"forbidden": 1.0}]


def make_matrix():
    obs = pd.DataFrame({"synapse_id": np.arange(30)}, index=np.arange(30).astype(str))
    return anndata.AnnData(np.random.default_rng(0).normal(size=(30, 8)).astype(np.float32), obs=obs)


def make_weights():
    config = ModelConfig(encoder="region_resnet", in_channels=2, width_factor=0.125, projection_dims=(8, 4))
    return EncoderWeights(dict(config.build(0).state_dict()), config, {})


@pytest.fixture(autouse=True)
def quick_retries(gcs_endpoint):
    level = logging.getLogger("gcsfs").level
    logging.getLogger("gcsfs").setLevel(logging.CRITICAL)
    with short_pauses():
        yield
    logging.getLogger("gcsfs").setLevel(level)


@pytest.fixture
def outputs(gcs_prefix):
    """What embedding and analysis save, by kind: the dataset and its data."""
    return [
        (AnnDataZarrDataset(filepath=f"{gcs_prefix}/a.zarr", credentials=ANONYMOUS), make_matrix()),
        (ParquetDataset(filepath=f"{gcs_prefix}/t.parquet", credentials=ANONYMOUS), pd.DataFrame({"x": [1.5, 2.5]})),
        (EncoderWeightsDataset(filepath=f"{gcs_prefix}/w.safetensors", credentials=ANONYMOUS), make_weights()),
    ]


def assert_equal(found, saved):
    if isinstance(saved, pd.DataFrame):
        pd.testing.assert_frame_equal(found, saved)
    elif isinstance(saved, EncoderWeights):
        assert found.sha256 == saved.sha256
    else:
        np.testing.assert_array_equal(found.X, saved.X)
        assert found.obs["synapse_id"].tolist() == saved.obs["synapse_id"].tolist()


@pytest.mark.parametrize("kinds", PASSING, ids=str)
def test_faults_that_pass_change_nothing(outputs, kinds):
    with faults(**kinds) as injected:
        for dataset, data in outputs:
            dataset.save(data)
            assert_equal(dataset.load(), data)
    assert sum(injected.happened.values()) > 0


@pytest.mark.parametrize("kinds", LASTING, ids=str)
def test_a_bucket_that_fails_is_an_error_that_names_the_place_and_loses_nothing(outputs, kinds, gcs_prefix):
    for dataset, data in outputs:
        dataset.save(data)
    place = re.escape(gcs_prefix.removeprefix("gs://"))
    for dataset, _ in outputs:
        with faults(**kinds):
            with pytest.raises(DatasetError, match=place):
                dataset.load()
            with pytest.raises(DatasetError, match=place):
                dataset.save(make_weights() if isinstance(dataset, EncoderWeightsDataset) else make_other(dataset))
    for dataset, data in outputs:
        assert_equal(dataset.load(), data)


def make_other(dataset):
    if isinstance(dataset, ParquetDataset):
        return pd.DataFrame({"x": [9.0]})
    other = make_matrix()
    other.X = other.X + 1
    return other
