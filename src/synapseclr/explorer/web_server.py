"""The explorer's web server: pages and pictures of one run, for this machine only."""

from __future__ import annotations

import gzip
import json
import logging
import re
import secrets
from importlib.resources import files
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import urlsplit

import numpy as np

from synapseclr.errors import ConfigurationError, SynapseCLRError, TableError
from synapseclr.explorer.answers import FewShotSearch, SearchKind, overview, synapse_details
from synapseclr.explorer.column_statistics import RunStatistics
from synapseclr.explorer.exports import selection_link
from synapseclr.explorer.images import PictureKind, SynapseImages
from synapseclr.explorer.label_learning import learnt_probability
from synapseclr.explorer.label_tables import accept_defects, current_labels
from synapseclr.explorer.map_routes import add_map_routes, large_overview
from synapseclr.explorer.map_views import SynapseViews
from synapseclr.explorer.run_outputs import TILES_ABOVE, RunOutputs

if TYPE_CHECKING:
    from flask import Flask, Response
    from werkzeug.serving import BaseWSGIServer


HOST = "127.0.0.1"
UNFINISHED_REQUEST_S = 20.0
"""Longest pause within a request, or in taking an answer; a connection that is silent for longer is closed."""

PICTURES: dict[str, tuple[PictureKind, str]] = {
    "thumbnail.jpg": ("thumbnail", "image/jpeg"),
    "em.jpg": ("em_strip", "image/jpeg"),
    "masks.png": ("mask_strip", "image/png"),
    "scene.json": ("scene", "application/json"),
}
"""File name to the kind of picture of :class:`SynapseImages`, and its media type."""

ASSETS = tuple(sorted(entry.name for entry in (files("synapseclr.explorer") / "web").iterdir()))
"""The page's own files."""

_POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_MAX_REQUEST_BYTES = 8_000_000
_ID = re.compile(r"[0-9]{1,20}")


def read_asset(name: str) -> bytes:
    """Read one of the page's files, or plotly's script from its Python package; nothing is fetched from elsewhere."""
    if name == "plotly.min.js":
        return (files("plotly") / "package_data" / name).read_bytes()
    return (files("synapseclr.explorer") / "web" / name).read_bytes()


def create_app(outputs: RunOutputs, tiles_above: int = TILES_ABOVE) -> Flask:
    """Make the web application.

    Args:
        outputs: The run to show. It is only read; labels go to ``outputs.labels``.
        tiles_above: Number of synapses above which the page asks for tiles, counts and parts of lists, and holds no
            column itself.

    Returns:
        A Flask application that answers only requests with this machine as host, and accepts changes only from its
        own pages.
    """
    from flask import Flask, Response, abort, jsonify, request
    from werkzeug.exceptions import HTTPException

    app = Flask("synapseclr.explorer", static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = _MAX_REQUEST_BYTES
    images = SynapseImages(outputs.chunks) if outputs.chunks is not None else None
    search = FewShotSearch(outputs)
    statistics = RunStatistics(outputs)
    version = secrets.token_hex(8)
    views = SynapseViews(outputs, version)
    large = large_overview(outputs) if len(outputs) > tiles_above else None
    if large is not None:
        views.warm_up()

    @app.before_request
    def from_this_machine() -> None:
        """Refuse pages of other sites, also those whose host name resolves to this machine (DNS rebinding)."""
        if _host_name(request.host) not in ("127.0.0.1", "localhost", "::1"):
            abort(403, "This explorer answers on 127.0.0.1 only.")
        origin = request.headers.get("Origin")
        if request.method == "POST" and (not request.is_json or origin not in (None, f"http://{request.host}")):
            abort(403, "Changes are taken from the explorer's own page only.")

    @app.after_request
    def guarded(response: Response) -> Response:
        response.headers["Content-Security-Policy"] = _POLICY
        response.headers["X-Content-Type-Options"] = "nosniff"
        response.headers["Referrer-Policy"] = "no-referrer"
        response.headers["Cross-Origin-Resource-Policy"] = "same-origin"
        return response

    @app.errorhandler(SynapseCLRError)
    def refused(error: SynapseCLRError) -> tuple[Response, int]:
        return jsonify(error=str(error)), 400

    @app.errorhandler(HTTPException)
    def not_served(error: Any) -> tuple[Response, int]:
        return jsonify(error=error.description or error.name), error.code or 500

    @app.errorhandler(RecursionError)
    def too_deep(error: RecursionError) -> tuple[Response, int]:
        return jsonify(error="The request's JSON is nested too deeply."), 400

    @app.errorhandler(Exception)
    def failed(error: Exception) -> tuple[Response, int]:
        app.logger.exception("%s failed", request.path)
        return jsonify(error=f"The server failed: {type(error).__name__}. Its terminal says more."), 500

    def chosen(body: Any) -> np.ndarray:
        """Rows of the ids in a request, or of the selection that it names."""
        if isinstance(body, dict) and isinstance(body.get("selection"), str):
            return views.rows(body["selection"])
        return np.asarray(_rows(outputs, body), dtype=np.int64)

    def revalidated(content: bytes, kind: str) -> Response:
        """A response that the browser may cache while this server runs."""
        response = Response(content, mimetype=kind)
        response.set_etag(version)
        response.headers["Cache-Control"] = "no-cache"
        return cast(Response, response.make_conditional(request))

    @app.get("/")
    def page() -> Response:
        return revalidated(read_asset("index.html"), "text/html")

    @app.get("/favicon.ico")
    def icon() -> Response:
        return Response(status=204)

    packed: dict[str, bytes] = {}

    @app.get("/assets/<name>")
    def asset(name: str) -> Response:
        if name not in (*ASSETS, "plotly.min.js"):
            abort(404, "There is no such file.")
        kind = "text/css" if name.endswith(".css") else "text/javascript"
        if name not in packed:
            packed[name] = gzip.compress(read_asset(name), 1)
        response = revalidated(packed[name], kind)
        response.headers["Content-Encoding"] = "gzip"
        return response

    @app.get("/api/<name>.json")
    def about(name: str) -> Response:
        if name == "overview":
            found = overview(outputs, can_save=outputs.labels is not None)
            return jsonify(found | {"large": large})
        if name == "labels" and outputs.labels is not None:
            labels, damaged = outputs.labels.read()
            return jsonify(current_labels(labels, outputs.row_of_id) | {"damaged": damaged})
        return abort(404, "There is no such page.")

    @app.get("/api/ids.bin")
    def ids() -> Response:
        return revalidated(outputs.synapse_id.astype("<i8").tobytes(), "application/octet-stream")

    @app.get("/api/roots/<name>.bin")
    def roots(name: str) -> Response:
        if name not in outputs.roots:
            abort(404, "There are no such root ids.")
        return revalidated(outputs.roots[name].astype("<u8").tobytes(), "application/octet-stream")

    @app.get("/api/plane/<number>.bin")
    def plane(number: str) -> Response:
        planes = {str(place): found for place, found in enumerate(outputs.planes.values())}
        if number not in planes:
            abort(404, "There is no such plane.")
        return revalidated(planes[number].T.astype("<f4").tobytes(), "application/octet-stream")

    @app.get("/api/column/<number>.bin")
    def column(number: str) -> Response:
        columns = {str(place): found for place, found in enumerate(outputs.columns.values())}
        if number not in columns:
            abort(404, "There is no such column.")
        return revalidated(columns[number].values_n.astype("<f4").tobytes(), "application/octet-stream")

    @app.get("/api/synapse/<synapse_id>/details.json")
    def details(synapse_id: str) -> Response:
        found = synapse_details(outputs, images, _id(synapse_id))
        return jsonify(found) if found else abort(404, f"This run has no synapse {_shown(synapse_id)}.")

    @app.get("/api/synapse/<synapse_id>/similar/<other_id>.json")
    def similar(synapse_id: str, other_id: str) -> Response:
        row, other = (outputs.row_of_id.get(_id(each)) for each in (synapse_id, other_id))
        if row is None or other is None:
            abort(404, f"This run has no synapse {_shown(synapse_id if row is None else other_id)}.")
        return jsonify(statistics.why_similar(row, other))

    @app.get("/api/synapse/<synapse_id>/<picture>")
    def image(synapse_id: str, picture: str) -> Response:
        position = outputs.chunk_row_of_id.get(_id(synapse_id))
        if images is None or position is None or picture not in PICTURES:
            abort(404, f"There is no such picture of synapse {_shown(synapse_id)}.")
        kind, media_type = PICTURES[picture]
        return revalidated(images.picture(kind, position), media_type)

    @app.post("/api/summary")
    def summary() -> Response:
        return jsonify(summary=statistics.set_summary(chosen(request.json)))

    @app.post("/api/search")
    def find() -> Response:
        kind = _field(request.json, "kind")
        if kind not in ("similar", "defective"):
            raise TableError("A search is for 'similar' or for 'defective' synapses.")
        k = _field(request.json, "k", 48)
        if not isinstance(k, int) or isinstance(k, bool) or k < 1:
            raise TableError("The request's k, the number of synapses to find, is not a whole number above 0.")
        found = search.find(chosen(request.json), cast(SearchKind, kind), k)
        synapses = [
            {"id": str(outputs.synapse_id[row]), "row": int(row), "value": round(float(value), 4)}
            for row, value in zip(found.rows_k, found.values_k, strict=True)
        ]
        return jsonify(found=synapses, measure=found.measure)

    @app.post("/api/labels")
    def label() -> Response:
        if outputs.labels is None:
            raise TableError("This explorer was started without a place for labels.")
        rows = chosen(request.json)
        provenance = {
            "chosen_by": str(_field(request.json, "chosen_by", ""))[:20_000],
            "run": json.loads(json.dumps(dict(outputs.synapses.uns.get("provenance", {})), default=str)),
        }
        ids_chosen = outputs.synapse_id[rows].tolist()
        name = outputs.labels.save(ids_chosen, _field(request.json, "label"), provenance)
        return jsonify(table=name, n=len(ids_chosen))

    @app.post("/api/labels/withdraw")
    def withdraw() -> Response:
        if outputs.labels is None:
            raise TableError("This explorer was started without a place for labels.")
        outputs.labels.withdraw(_field(request.json, "table"))
        return jsonify(withdrawn=True)

    @app.post("/api/defects")
    def defects() -> Response:
        if outputs.accepted_defects is None:
            raise TableError("This explorer was started without a place for accepted defects.")
        rows = chosen(request.json)
        n_new = accept_defects(outputs.accepted_defects, outputs.synapse_id[rows].tolist())
        return jsonify(n=len(rows), n_new=n_new)

    @app.post("/api/learn")
    def learn() -> Response:
        without = {"ids": _field(request.json, "without", [])}
        probability_n = learnt_probability(outputs, _rows(outputs, request.json), _rows(outputs, without))
        return Response(probability_n.astype("<f4").tobytes(), mimetype="application/octet-stream")

    @app.post("/api/neuroglancer")
    def neuroglancer() -> Response:
        name = _field(request.json, "column", "")
        if not isinstance(name, str):
            raise TableError("The request's column is not the name of one.")
        link, n = selection_link(outputs, chosen(request.json), name or None)
        if link is None:
            raise TableError("There is no EM volume that a browser can read: set neuroglancer.em (docs, explorer).")
        return jsonify(url=link, n=n)

    add_map_routes(app, outputs, views, lambda body: _rows(outputs, body), _id)
    return app


def _field(body: Any, name: str, default: Any = None) -> Any:
    value = body.get(name, default) if isinstance(body, dict) else None
    if value is None:
        raise TableError(f"The request lacks '{name}'.")
    return value


def _host_name(host: str) -> str | None:
    try:
        return urlsplit(f"//{host}").hostname
    except ValueError:  # brackets that are no address
        return None


def _id(text: str) -> int:
    """The synapse id in a request; -1, which no synapse has, if it is not a number."""
    return int(text) if _ID.fullmatch(text) else -1


def _shown(text: str) -> str:
    return text if len(text) <= 40 else f"{text[:40]}..."


def _rows(outputs: RunOutputs, body: Any) -> list[int]:
    """Rows of the synapses in a request, without repeats."""
    wanted = _field(body, "ids")
    if not isinstance(wanted, list) or not all(isinstance(item, str) and _ID.fullmatch(item) for item in wanted):
        raise TableError("The request's ids are not a list of synapse ids written as text.")
    wanted = list(dict.fromkeys(wanted))
    rows = [outputs.row_of_id.get(int(item), -1) for item in wanted]
    if -1 in rows:
        raise TableError(f"This run has no synapse {wanted[rows.index(-1)]}.")
    return list(dict.fromkeys(rows))


def make_explorer_server(app: Flask, port: int) -> BaseWSGIServer:
    """Bind the server, one thread per request; connections are kept open.

    Args:
        app: From :func:`synapseclr.explorer.web_server.create_app`.
        port: 0 takes any free one; ``server.port`` says which.

    Raises:
        ConfigurationError: If the port is taken.
    """
    from werkzeug.serving import WSGIRequestHandler, make_server

    class Handler(WSGIRequestHandler):
        protocol_version = "HTTP/1.1"
        timeout = UNFINISHED_REQUEST_S

        def log_request(self, *arguments: Any, **options: Any) -> None:
            """Do not log requests that succeeded."""

    logging.getLogger("werkzeug").setLevel(logging.WARNING)
    try:
        return make_server(HOST, port, app, threaded=True, request_handler=Handler)
    except (OSError, SystemExit) as error:
        raise ConfigurationError(
            f"Port {port} on {HOST} is taken, perhaps by an explorer that still runs. Choose another one, such as "
            f"--port={port + 1}."
        ) from error
