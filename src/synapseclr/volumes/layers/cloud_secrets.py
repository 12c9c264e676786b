"""Credentials for buckets, as CloudVolume takes them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_SAME = {"gs": ("gcs", "gs"), "gcs": ("gcs", "gs"), "s3": ("s3", "s3a")}


def cloud_secrets(uri: str, storage_options: Mapping[str, Any] | None = None) -> Any:
    """Translate fsspec's options for a bucket into CloudVolume's ``secrets``.

    Args:
        uri: ``gs://...`` or ``s3://...``, with or without a format in front (``precomputed://``).
        storage_options: ``token`` (``anon``, the path of a key file, or its content) for Google Cloud Storage; ``key``,
            ``secret`` and ``token`` for S3. What is not given is taken from fsspec's configuration, which Kedro's
            ``credentials.yml`` fills.

    Returns:
        None where there is nothing to say: CloudVolume then finds credentials by itself.
    """
    import fsspec

    protocol = uri.split("://")[-2] if "://" in uri else "file"
    options: dict[str, Any] = {}
    for name in _SAME.get(protocol, ()):
        options |= fsspec.config.conf.get(name, {})
    options |= dict(storage_options or {})
    if protocol == "s3" and "key" in options:
        secrets = {"AWS_ACCESS_KEY_ID": options["key"], "AWS_SECRET_ACCESS_KEY": options.get("secret", "")}
        return secrets | ({"AWS_SESSION_TOKEN": options["token"]} if options.get("token") else {})
    token = options.get("token") if protocol in ("gs", "gcs") else None
    if token == "anon":
        from google.auth.credentials import AnonymousCredentials

        return AnonymousCredentials()
    if isinstance(token, str) and Path(token).is_file():
        return json.loads(Path(token).read_text())
    return dict(token) if isinstance(token, Mapping) else None
