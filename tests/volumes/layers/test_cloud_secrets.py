import json

import fsspec
import pytest
from google.auth.credentials import AnonymousCredentials

from synapseclr.volumes.layers.cloud_secrets import cloud_secrets


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
