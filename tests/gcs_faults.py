"""Faults of an object store, put into the Google Cloud Storage of this machine (``gcs_emulator``)."""

import json
import random
import socket
import struct
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace

import pytest
from gcp_storage_emulator import server

STALL_S = 2.0


class Faults:
    """What goes wrong, by the share of the requests; drawn from a seed, at most ``at_most`` times each."""

    def __init__(self, at_most: int = 10**9, **shares: float) -> None:
        self.shares = shares
        self.at_most = at_most
        self.happened: Counter[str] = Counter()
        self._random = random.Random(0)

    def draw(self) -> str | None:
        place = self._random.random()
        for name, share in self.shares.items():
            if place < share:
                if self.happened[name] >= self.at_most:
                    return None
                self.happened[name] += 1
                return name
            place -= share
        return None


@contextmanager
def faults(at_most: int = 10**9, **shares: float) -> Iterator[Faults]:
    """Let requests fail until the end of the block.

    Kinds: ``unavailable`` (status 503), ``reset`` (the connection breaks before there is an answer), ``truncated``
    (it breaks in the middle of the answer), ``stall`` (the answer takes STALL_S longer), ``unauthorised`` (status 401),
    ``forbidden`` (status 403).
    """
    drawn = Faults(at_most, **shares)
    real_handle = server.Router.handle

    def handle(router, method):
        connection = router._request_handler
        fault = drawn.draw()
        if fault == "stall":
            time.sleep(STALL_S)
        if fault in ("unavailable", "unauthorised", "forbidden"):
            status = {"unavailable": 503, "unauthorised": 401, "forbidden": 403}[fault]
            connection.rfile.read(int(connection.headers.get("Content-Length") or 0))
            body = json.dumps({"error": {"code": status, "message": f"{fault}, for the test"}}).encode()
            connection.send_response(status)
            connection.send_header("Content-Length", str(len(body)))
            connection.end_headers()
            connection.wfile.write(body)
        elif fault == "reset":
            _break(connection)
        elif fault == "truncated":
            whole, connection.wfile = connection.wfile, _Kept()
            real_handle(router, method)
            answer = bytes(connection.wfile.written)
            connection.wfile = whole
            header, _, body = answer.partition(b"\r\n\r\n")
            # A client that repeats the last part of an upload is answered by GCS, but not by the emulator.
            is_cut = "upload_id=" not in connection.path
            whole.write(header + b"\r\n\r\n" + body[: len(body) // 2 if is_cut else None])
            whole.flush()
            if not body or not is_cut:
                drawn.happened["truncated"] -= 1
        else:
            real_handle(router, method)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(server.Router, "handle", handle)
        yield drawn


class _Kept:
    """Keeps what is written."""

    def __init__(self) -> None:
        self.written = bytearray()
        self.closed = False

    def write(self, data: bytes) -> int:
        self.written += data
        return len(data)

    def flush(self) -> None: ...


def _break(connection) -> None:
    """Close a connection by a reset."""
    connection.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.connection.close()
    connection.close_connection = True


class _Clock:
    """Sleeps no time at all, and says that it did."""

    def __init__(self) -> None:
        self._slept_s = 0.0

    def sleep(self, seconds: float) -> None:
        self._slept_s += seconds

    def monotonic(self) -> float:
        return time.monotonic() + self._slept_s

    time = monotonic


@contextmanager
def short_pauses() -> Iterator[None]:
    """Let gcsfs, Google's client, CloudFiles and ourselves try again without a pause, and as often as with one."""
    import asyncio

    import gcsfs.retry
    import tenacity.nap
    from google.api_core.retry import retry_base, retry_unary

    from synapseclr.volumes.layers import blocks

    clock = _Clock()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gcsfs.retry, "asyncio", SimpleNamespace(sleep=lambda seconds: asyncio.sleep(0.001)))
        patch.setattr(tenacity.nap, "time", clock)
        patch.setattr(retry_base, "time", clock)
        patch.setattr(retry_unary, "time", clock)
        patch.setattr(blocks, "FIRST_PAUSE_S", 0.001)
        yield
