"""Addresses are local or not in one sense everywhere, and options of buckets reach those that open them."""

import json
import os
from pathlib import Path

import fsspec
import numpy as np
import pytest
from google.auth.credentials import AnonymousCredentials

from synapseclr.datasets import AnnDataZarrDataset, EncoderWeightsDataset, LedgerDataset, PrecomputedVolumeDataset
from synapseclr.storage.addresses import (
    cloud_secrets,
    file_url,
    is_local,
    open_filesystem,
    plain_address,
    set_default_options,
)
from synapseclr.storage.atomic_files import check_file, write_whole
from synapseclr.storage.object_folder import ObjectFolder
from synapseclr.volumes import ChunkBatch, ChunkStore, ChunkStream, PrecomputedLayer, write_chunk_store

LOCAL = {
    "/data/em": "/data/em",
    "data/em volume": "data/em volume",
    "file:///data/em": "/data/em",
    "file:///data/em volume/a#b": "/data/em volume/a#b",
    "file://data/em": "data/em",
    "FILE:///data/em": "/data/em",
    "local:///data/em": "/data/em",
    "precomputed://file:///data/em": "/data/em",
    "n5://file:///data/em.n5": "/data/em.n5",
    "./a:b": "./a:b",
}
REMOTE = [
    "gs://bucket/em",
    "gcs://bucket/em",
    "s3://bucket/a b",
    "https://host/em",
    "memory://em",
    "precomputed://gs://bucket/em",
    "graphene://https://host/table",
    "simplecache::gs://bucket/em",
    "zip://em.npy::file:///data/em.zip",
]


@pytest.mark.parametrize(("address", "path"), LOCAL.items())
def test_paths_and_file_urls_are_local(address, path):
    assert is_local(address)
    assert plain_address(address) == path
    assert file_url(address) == f"file://{os.path.abspath(path)}"
    assert open_filesystem(address, {"token": "anon"})[1] == os.path.abspath(path)


@pytest.mark.parametrize("url", REMOTE)
def test_other_urls_are_not_and_stay_as_they_are(url):
    assert not is_local(url)
    assert plain_address(url) == file_url(url) == url


def test_a_path_object_is_local(tmp_path):
    assert is_local(tmp_path)
    assert plain_address(Path("a/b")) == "a/b"


@pytest.mark.parametrize("address", ["file:///a/em", "/a/em", "gs://bucket/em", "precomputed://gs://bucket/em"])
def test_all_that_asks_agrees(address):
    expected = is_local(address)
    assert PrecomputedLayer(address).is_local == expected
    assert ObjectFolder(address).is_remote == (not expected)


def test_a_file_url_names_the_same_outputs_as_its_path(tmp_path):
    plain, url = str(tmp_path / "a b"), f"file://{tmp_path}/a b"
    write_whole(f"{url}.bin", b"whole")
    (tmp_path / "a b.bin").write_bytes(b"who")
    with pytest.raises(ValueError, match="cut short"):
        check_file(f"{plain}.bin")
    chunk = np.ones((1, 2, 4, 4, 4), np.uint8)
    records = {name: np.array([7]) for name in ("synapse_id", "cleft_id", "n_cutout_sections", "n_padded_voxels")}
    write_chunk_store(ChunkStream([ChunkBatch(chunk, records)], (4, 4, 4), (8, 8, 40)), f"{url}.zarr")
    np.testing.assert_array_equal(ChunkStore(f"{url}.zarr").read([0]), ChunkStore(f"{plain}.zarr").read([0]))
    assert (tmp_path / "a b.zarr/zarr.json").is_file()
    assert ChunkStore(f"{url}.zarr").url == f"{plain}.zarr"
    LedgerDataset(filepath=f"{url}.json").save({"a": 1})
    assert LedgerDataset(filepath=f"{plain}.json").load() == {"a": 1}
    assert PrecomputedVolumeDataset(filepath=url, layer_type="image").uri == url
    assert PrecomputedVolumeDataset(filepath=plain, layer_type="image").uri == url


@pytest.mark.parametrize("kind", [AnnDataZarrDataset, EncoderWeightsDataset])
def test_outputs_at_a_file_url_are_checked_like_those_at_a_path(kind, tmp_path):
    assert kind(filepath=f"file://{tmp_path}/x")._is_local
    assert kind(filepath=f"{tmp_path}/x")._is_local
    assert not kind(filepath="memory://x")._is_local


def test_default_options_reach_fsspec_and_child_processes(monkeypatch):
    monkeypatch.setattr(fsspec.config, "conf", {})
    monkeypatch.setenv("FSSPEC_GS", "")
    set_default_options({"gs": {"token": "anon"}, "no protocol": {"token": "x"}, "s3": None})
    assert fsspec.config.conf == {"gs": {"token": "anon"}}
    assert json.loads(os.environ["FSSPEC_GS"]) == {"token": "anon"}


def test_anonymous_access_is_said_to_cloudvolume():
    assert isinstance(cloud_secrets("precomputed://gs://bucket/em", {"token": "anon"}), AnonymousCredentials)


def test_a_key_file_is_read(tmp_path):
    path = tmp_path / "key.json"
    path.write_text(json.dumps({"project_id": "lab"}))
    assert cloud_secrets("gs://bucket/em", {"token": str(path)}) == {"project_id": "lab"}


def test_keys_of_s3_get_their_names_there():
    secrets = cloud_secrets("s3://bucket/em", {"key": "k", "secret": "s"})
    assert secrets == {"AWS_ACCESS_KEY_ID": "k", "AWS_SECRET_ACCESS_KEY": "s"}


@pytest.mark.parametrize("name", ["gs", "gcs"])
def test_the_configured_default_counts_unless_an_entry_has_its_own(monkeypatch, name):
    monkeypatch.setitem(fsspec.config.conf, name, {"token": "anon"})
    assert isinstance(cloud_secrets("gs://bucket/em"), AnonymousCredentials)
    assert cloud_secrets("gs://bucket/em", {"token": {"project_id": "mine"}}) == {"project_id": "mine"}


@pytest.mark.parametrize("uri", ["file:///data/em", "/data/em", "https://host/em", "gs://bucket/em"])
def test_without_credentials_cloudvolume_finds_its_own(uri, monkeypatch):
    monkeypatch.setattr(fsspec.config, "conf", {})
    assert cloud_secrets(uri) is None
