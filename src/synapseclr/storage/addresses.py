"""Addresses of files and folders: on this machine or elsewhere, and the options and credentials that open them."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_LOCAL = ("file", "local")
_SAME = {"gs": ("gcs", "gs"), "gcs": ("gcs", "gs"), "s3": ("s3", "s3a")}


def is_local(address: str | os.PathLike[str]) -> bool:
    """Tell whether an address is a file or folder of this machine.

    Args:
        address: A path, or a URL: ``file:///data/em`` is local, with a format of CloudVolume in front
            (``n5://file:///data/em.n5``) too; ``gs://bucket/em`` and fsspec's ``memory://em`` are not.
    """
    protocol = os.fspath(address).rpartition("://")[0].rpartition("://")[2]
    return protocol.lower() in ("", *_LOCAL)


def plain_address(address: str | os.PathLike[str]) -> str:
    """Return a local address as a path, without ``file://`` and a format in front; any other one as it is."""
    return os.fspath(address).rpartition("://")[2] if is_local(address) else os.fspath(address)


def file_url(address: str | os.PathLike[str]) -> str:
    """Return a local address as ``file://`` and the absolute path; any other one as it is."""
    return f"file://{Path(plain_address(address)).resolve()}" if is_local(address) else os.fspath(address)


def open_filesystem(
    address: str | os.PathLike[str], storage_options: Mapping[str, Any] | None = None
) -> tuple[Any, str]:
    """Find the file system of fsspec that an address belongs to, and the path in it.

    Args:
        address: Local path or fsspec URL.
        storage_options: As fsspec takes them, such as credentials. Those of a bucket do not concern local files.

    Raises:
        ValueError: If no file system has this protocol.
        ImportError: If the package that reads it is not installed.
    """
    import fsspec

    options = {} if is_local(address) else dict(storage_options or {})
    filesystem, path = fsspec.core.url_to_fs(plain_address(address), **options)
    return filesystem, str(path)


def set_default_options(options_of_protocol: Mapping[str, Any]) -> None:
    """Make options the default of fsspec for a protocol's URLs, here and in the processes started from here.

    Args:
        options_of_protocol: Such as ``{"gs": {"token": "anon"}}``; names that are no protocol are passed over.
    """
    import fsspec

    for protocol, options in options_of_protocol.items():
        if protocol in fsspec.available_protocols() and isinstance(options, dict):
            fsspec.config.conf[protocol] = options
            os.environ[f"FSSPEC_{protocol.upper()}"] = json.dumps(options)


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
