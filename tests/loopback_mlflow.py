"""A tracking server on 127.0.0.1 that keeps what it is told in memory, and can hang or die."""

import json
import threading
from collections import defaultdict
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

RUN_ID = "0123456789abcdef0123456789abcdef"


class LoopbackMLflow:
    """Answers the requests that an outbox makes about one run.

    Attributes:
        hangs: Whether it accepts requests and answers none.
        metrics, params, tags, status: What it was told about the run.
        times_ms: Of metrics and the run's end, in the order in which they came.
        refused: Names of parameters that it does not take.
    """

    def __init__(self) -> None:
        self.metrics: dict[str, dict[int, float]] = defaultdict(dict)
        self.params: dict[str, str] = {}
        self.tags: dict[str, str] = {}
        self.status = "RUNNING"
        self.times_ms: list[int] = []
        self.refused: set[str] = set()
        self.hangs = False
        self.n_requests = 0
        self._ended = threading.Event()
        self._port = 0
        self.start()

    @property
    def uri(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def start(self) -> None:
        """Answer, at the same address as before."""
        self.hangs = False
        self._server = ThreadingHTTPServer(("127.0.0.1", self._port), self._handler())
        self._server.daemon_threads = True
        self._port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    def die(self) -> None:
        """Refuse connections from now on."""
        self._server.shutdown()
        self._server.server_close()

    def close(self) -> None:
        self._ended.set()
        self.die()

    def answer(self, path: str, body: dict) -> tuple[int, dict]:
        self.n_requests += 1
        if path == "/health":
            return 200, {}
        if path.endswith("/runs/log-batch"):
            if self.refused & {item["key"] for item in body.get("params", [])}:
                return 400, {"error_code": "INVALID_PARAMETER_VALUE", "message": "no such value"}
            for item in body.get("metrics", []):
                self.metrics[item["key"]][int(item.get("step", 0))] = float(item["value"])
                self.times_ms.append(int(item["timestamp"]))
            self.params |= {item["key"]: item["value"] for item in body.get("params", [])}
            self.tags |= {item["key"]: item["value"] for item in body.get("tags", [])}
            return 200, {}
        if path.endswith("/runs/update"):
            self.status = body["status"]
            self.times_ms.append(int(body["end_time"]))
        return 200, {"run": {"info": {"run_id": RUN_ID, "run_uuid": RUN_ID, "experiment_id": "1"}, "data": {}}}

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                if server.hangs:
                    server._ended.wait()
                    return
                content = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                status, told = server.answer(self.path.partition("?")[0], json.loads(content) if content else {})
                data = json.dumps(told).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(data)))
                self.send_header("Connection", "close")
                self.end_headers()
                self.wfile.write(data)

            do_POST = do_PATCH = do_GET  # noqa: N815

            def log_message(self, *_) -> None:
                pass

        return Handler
