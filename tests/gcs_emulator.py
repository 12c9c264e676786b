"""A Google Cloud Storage on this machine, in memory: gcp-storage-emulator, with what our clients need of the real one.

Run as a program, it serves until it is ended, and prints its address: `STORAGE_EMULATOR_HOST=<address> kedro run ...`
"""

import json
import logging
import re
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from gcp_storage_emulator import server
from gcp_storage_emulator.exceptions import NotFound
from gcp_storage_emulator.handlers import objects

BUCKET = "synapseclr-test"
_real_download, _real_get_header, _real_read_data = objects.download, server.Request.get_header, server._read_data


@contextmanager
def serve() -> Iterator[str]:
    """Serve until the end of the block; yields the address. `STORAGE_EMULATOR_HOST` is set in the meantime."""
    for name in ("gcp_storage_emulator", "asyncio"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(server.Request, "get_header", _absolute_range)
        patch.setattr(server, "_read_data", _exact_data)
        patch.setattr(server.server.HTTPServer, "handle_error", lambda *_: None)  # pandas closes its connections early
        patch.setattr(server.server.HTTPServer, "request_queue_size", 256)  # with 5, connections at once hang
        patch.setattr(objects, "download", _download_with_encoding)
        for _, handlers in server.HANDLERS:
            if handlers.get("GET") is _real_download:
                patch.setitem(handlers, "GET", _download_with_encoding)
        move = (
            r"^/storage/v1/b/(?P<bucket_name>[-.\w]+)/o/(?P<object_id>.*)/moveTo/o/(?P<target>.*)$",
            {"POST": _move},
        )
        patch.setattr(server, "HANDLERS", (move, *server.HANDLERS))
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        with server.create_server("127.0.0.1", port, in_memory=True, default_bucket=BUCKET):
            patch.setenv("STORAGE_EMULATOR_HOST", f"http://127.0.0.1:{port}")
            yield f"http://127.0.0.1:{port}"


def _absolute_range(self, key, default=None):
    """Turn suffix ranges (``bytes=-n``), which Zarr asks for and the emulator ignores, into absolute ones."""
    value = _real_get_header(self, key, default)
    if key.lower() == "range" and value and value.startswith("bytes=-"):
        blob = self._request_handler.storage.get_file(self.params["bucket_name"], self.params["object_id"])
        return f"bytes={max(len(blob) - int(value.removeprefix('bytes=-')), 0)}-"
    return value


def _exact_data(request_handler, query):
    """Take uploads apart as bytes: the emulator reads them as mail, and loses a carriage return at the end."""
    content_type = request_handler.headers.get("Content-Type") or ""
    if not content_type.startswith("multipart/related"):
        return _real_read_data(request_handler, query)
    boundary = re.search(r"boundary=[\"']?([^\"';]+)", content_type)[1].encode()
    _, meta, content, _ = server._read_raw_data(request_handler).split(b"--" + boundary, 3)
    (_, meta), (header, content) = (part.split(_blank_line(part), 1) for part in (meta, content))
    kind = re.search(rb"content-type: *([^\r\n;]+)", header, re.IGNORECASE)
    return {
        "meta": json.loads(meta),
        "content": content.removesuffix(b"\r\n" if header.startswith(b"\r\n") else b"\n"),
        "content-type": kind[1].decode() if kind else "application/octet-stream",
    }


def _blank_line(part: bytes) -> bytes:
    return b"\r\n\r\n" if part.startswith(b"\r\n") else b"\n\n"


def _download_with_encoding(request, response, storage, *args, **kwargs):
    """Say that an object is compressed: clients do not decompress what they do not know to be."""
    _real_download(request, response, storage, *args, **kwargs)
    if response.status < 300:
        stored = storage.get_file_obj(request.params["bucket_name"], request.params["object_id"])
        if stored.get("contentEncoding"):
            response["Content-Encoding"] = stored["contentEncoding"]


def _move(request, response, storage, *args, **kwargs):
    """The emulator has no ``moveTo``, and clients try for half a minute."""
    bucket, source, target = (request.params[name] for name in ("bucket_name", "object_id", "target"))
    try:
        stored = storage.get_file_obj(bucket, source) | {"name": target}
        storage.create_file(bucket, target, storage.get_file(bucket, source), stored)
        storage.delete_file(bucket, source)
        response.json(stored)
    except NotFound:
        response.status = server.HTTPStatus.NOT_FOUND


if __name__ == "__main__":
    with serve() as address:
        print(address, flush=True)  # noqa: T201
        while True:
            time.sleep(3600)
