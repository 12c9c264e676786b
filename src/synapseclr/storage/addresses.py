"""Addresses of files and folders, here or elsewhere: options and credentials that open them, errors that name them."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from os import PathLike
from pathlib import Path
from typing import Any, Literal

from synapseclr.errors import OutputError, SynapseCLRError, UnreachableError

_LOCAL = ("file", "local")
_CAVE = "cave"
_SAME = {"gs": ("gcs", "gs"), "gcs": ("gcs", "gs"), "s3": ("s3", "s3a")}
_CLIENTS = ("requests", "urllib3", "aiohttp", "google", "gcsfs", "botocore", "aiobotocore")
"""Packages that raise the errors of object stores."""

_ABOUT_THE_OBJECT = (404, 416)  # status codes of a store that answers


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
        options_of_protocol: Such as ``{"gs": {"token": "anon"}}``, or ``{"cave": {"token": "0123..."}}`` for CAVE
            servers; other names that are no protocol are passed over.
    """
    import fsspec

    for protocol, options in options_of_protocol.items():
        if protocol in (*fsspec.available_protocols(), _CAVE) and isinstance(options, dict):
            fsspec.config.conf[protocol] = options
            os.environ[f"FSSPEC_{protocol.upper()}"] = json.dumps(options)


def cave_token(credentials: Mapping[str, Any] | None = None) -> str | None:
    """Token for CAVE servers and their graphs: of an entry's credentials, or of ``cave`` in Kedro's credentials.

    Returns:
        None where neither has one: caveclient and CloudVolume then look where they have saved it.
    """
    import fsspec

    token = (credentials or {}).get("token") or fsspec.config.conf.get(_CAVE, {}).get("token")
    return str(token) if token else None


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


@contextmanager
def explained(
    address: str | PathLike[str], what: Literal["read", "written", "listed", "deleted"] = "read"
) -> Iterator[None]:
    """Name the file or object in what the operating system or a bucket's client complains about, and say what to do.

    Clients of object stores try again by themselves, with growing pauses, before they raise.

    Args:
        address: Path or URL.
        what: What is being done with it.

    Raises:
        OutputError: If a local file or folder cannot be written.
        UnreachableError: If a store does not answer, or refuses access. What concerns the object alone, such as that
            there is none, is raised as it is.
    """
    try:
        yield
    except SynapseCLRError:
        raise
    except Exception as error:
        if not is_local(address):
            if is_unreachable(error):
                raise UnreachableError(unreachable(str(address), error, what)) from error
        elif what == "written" and isinstance(error, OSError) and error.errno is not None:
            raise OutputError(
                f"{address} cannot be written ({error.strerror or error}). What lay there before is untouched. Make "
                "room or see to the rights of the folder, and run the same command again."
            ) from error
        raise


def is_unreachable(error: BaseException | None) -> bool:
    """Tell whether an error concerns the connection or the access, and so everything in the same store.

    Args:
        error: As a client of an object store raised it; its causes are looked at too.
    """
    while error is not None:
        status = getattr(error, "code", None) or getattr(getattr(error, "response", None), "status_code", None)
        if isinstance(error, FileNotFoundError) or status in _ABOUT_THE_OBJECT:
            return False
        is_network = isinstance(error, (ConnectionError, TimeoutError, PermissionError))
        is_forbidden = type(error) is OSError and str(error).startswith("Forbidden")  # gcsfs, of status 403
        if is_network or is_forbidden or type(error).__module__.partition(".")[0] in _CLIENTS:
            return True
        error = error.__cause__
    return False


def unreachable(address: str, error: BaseException, what: str = "read") -> str:
    """Word the message of an :class:`UnreachableError`."""
    reason = (str(error).strip().splitlines() or ["no message"])[0].partition(": {")[0]
    return (
        f"{address} cannot be {what} ({type(error).__name__}: {reason}). Check the bucket's name, your credentials "
        "(docs/data.md) and the connection, and run the same command again: it continues."
    )
