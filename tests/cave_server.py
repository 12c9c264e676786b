"""A CAVE server on 127.0.0.1: info, tokens, materialization and chunked graph, as the real services answer.

Routes, status codes, headers and encodings are those that caveclient and CloudVolume are written for; the rules of the
materialization service (a limit of rows with a warning, inclusive boxes in the table's units, `direct_sql_pandas`
answers as Arrow streams) follow CAVEconnectome/MaterializationEngine, the redirect and the status of tokens
seung-lab/middle_auth_client.
"""

import gzip
import io
import json
import re
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field

import flask
import numpy as np
import pandas as pd
import pyarrow as pa
from werkzeug.serving import WSGIRequestHandler, make_server

TOKEN = "0123456789abcdef0123456789abcdef"
CHUNKED_GRAPH = "pcg_v1"
_TIME = "%Y-%m-%dT%H:%M:%S.%f"


@dataclass
class Table:
    """A table of one version: rows with positions in three columns each, in units of ``resolution_nm``."""

    rows: pd.DataFrame
    resolution_nm: tuple[float | None, ...] = (4.0, 4.0, 40.0)
    reference_table: str | None = None
    schema_type: str = "synapse"


@dataclass
class Version:
    timestamp: pd.Timestamp
    tables: dict[str, Table]
    is_expired: bool = False


@dataclass
class LoopbackCave:
    """Contents of the server, and the requests it got.

    Attributes:
        versions: By number.
        roots: Moments (seconds since 1970) from which on supervoxels have the roots of a mapping.
        graph_info: Of the chunked graph; with ``data_dir``, the watershed's address.
        row_limit: Rows of one answer.
        fail_after: Queries after which the service is down; None: never.
        hangs: Queries wait for this event; None: they are answered at once.
        queries: Bodies of the queries, in their order.
        n_root_requests: Requests for roots.
    """

    datastack: str = "loopback_public"
    versions: dict[int, Version] = field(default_factory=dict)
    roots: list[tuple[float, dict[int, int]]] = field(default_factory=list)
    graph_info: dict = field(default_factory=dict)
    soma_table: str | None = "nuclei"
    row_limit: int = 200_000
    fail_after: int | None = None
    queries: list[dict] = field(default_factory=list)
    n_root_requests: int = 0
    hangs: threading.Event | None = None
    root_timestamps: list[float] = field(default_factory=list)
    address: str = ""

    def roots_at(self, supervoxels: np.ndarray, timestamp: float) -> np.ndarray:
        mapping = next((roots for since, roots in reversed(self.roots) if since <= timestamp), {})
        return np.array([mapping.get(int(one), 0) for one in supervoxels], np.uint64)


class _Quiet(WSGIRequestHandler):
    def log(self, *_):
        """No line a request."""


@contextmanager
def serve(cave: LoopbackCave):
    """Answer on a free port; the address is in ``cave.address``."""
    server = make_server("127.0.0.1", 0, _app(cave), threaded=True, request_handler=_Quiet)
    cave.address = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield cave
    finally:
        server.shutdown()
        thread.join()


def _app(cave: LoopbackCave) -> flask.Flask:
    app = flask.Flask("loopback_cave")

    @app.before_request
    def check_token():
        path = flask.request.path
        if (re.search(r"/(version|versions)$", path) and "datastack" not in path) or path.startswith("/sticky_auth"):
            return None
        header = flask.request.headers.get("Authorization", "")
        if not header:
            return flask.redirect(f"{cave.address}/sticky_auth/login", 302)
        if header != f"Bearer {TOKEN}":
            return flask.Response("Unauthorized", 401, {"WWW-Authenticate": f'Bearer realm="{cave.address}"'})
        return None

    @app.get("/sticky_auth/login")
    def login():
        return "<html>Log in</html>"

    @app.get("/info/version")
    def info_version():
        return flask.jsonify("4.3.1")

    @app.get("/info/api/v2/datastacks")
    def datastacks():
        return flask.jsonify([cave.datastack, "of_others"])

    @app.get("/info/api/v2/datastack/full/<name>")
    def datastack(name):
        if name != cave.datastack:
            return flask.jsonify(error=404, message="not found"), 404
        return flask.jsonify(
            aligned_volume={"id": 1, "name": "loopback", "image_source": "precomputed://file:///nowhere"},
            local_server=cave.address,
            segmentation_source=f"graphene://{cave.address}/segmentation/table/{CHUNKED_GRAPH}",
            synapse_table="synapses",
            soma_table=cave.soma_table,
            viewer_resolution_x=4,
            viewer_resolution_y=4,
            viewer_resolution_z=40,
        )

    _add_materialization(app, cave)
    _add_chunked_graph(app, cave)
    return app


def _add_materialization(app: flask.Flask, cave: LoopbackCave) -> None:
    @app.get("/materialize/api/versions")
    def api_versions():
        return flask.jsonify([2, 3])

    @app.get("/materialize/version")
    def version():
        return flask.jsonify("5.13.0")

    def described(number: int) -> dict:
        made = cave.versions[number]
        until = made.timestamp + pd.Timedelta(days=30)
        return {
            "id": number,
            "version": number,
            "datastack": cave.datastack,
            "valid": not made.is_expired,
            "status": "EXPIRED" if made.is_expired else "AVAILABLE",
            "time_stamp": made.timestamp.strftime(_TIME),
            "expires_on": until.strftime(_TIME),
        }

    def listed() -> list[int]:
        with_expired = flask.request.args.get("expired", "False") == "True"
        return [number for number, made in cave.versions.items() if with_expired or not made.is_expired]

    @app.get("/materialize/api/v3/datastack/<name>/versions")
    def versions(name):
        return flask.jsonify(listed())

    @app.get("/materialize/api/v3/datastack/<name>/metadata")
    def versions_metadata(name):
        return flask.jsonify([described(number) for number in listed()])

    @app.get("/materialize/api/v3/datastack/<name>/version/<int:number>")
    def version_metadata(name, number):
        if number not in cave.versions:
            return flask.jsonify(message="No version found"), 404
        return flask.jsonify(described(number))

    @app.get("/materialize/api/v2/datastack/<name>/version/<int:number>/tables")
    def tables(name, number):
        return flask.jsonify(list(cave.versions[number].tables))

    def table_of(number: int, name: str) -> Table:
        made = cave.versions.get(number)
        if made is None or name not in made.tables:
            flask.abort(404, f"analysis table {name} not found for version {number}")
        if made.is_expired:
            flask.abort(410, "This materialization version is not available")
        return made.tables[name]

    @app.get("/materialize/api/v3/datastack/<name>/version/<int:number>/table/<table>/metadata")
    def metadata(name, number, table):
        found = table_of(number, table)
        resolution = dict(zip("xyz", found.resolution_nm, strict=True))
        return flask.jsonify(
            table_name=table,
            schema_type=found.schema_type,
            reference_table=found.reference_table,
            valid=True,
            **{f"voxel_resolution_{axis}": size for axis, size in resolution.items()},
        )

    @app.get("/materialize/api/v2/datastack/<name>/version/<int:number>/table/<table>/count")
    def count(name, number, table):
        return flask.jsonify(len(table_of(number, table).rows))

    @app.post("/materialize/api/v3/datastack/<name>/version/<int:number>/table/<table>/query")
    def query(name, number, table):
        if cave.hangs is not None:
            cave.hangs.wait()
        if cave.fail_after is not None and len(cave.queries) >= cave.fail_after:
            return flask.Response("Service Unavailable", 503)
        body, found = json.loads(flask.request.data), table_of(number, table)
        cave.queries.append(body | {"table": table})
        assert flask.request.args["arrow_format"] == "True"
        assert flask.request.args["split_positions"] == "True"
        rows = _selected(found.rows, table, body)
        if rows is None:
            return flask.jsonify(message="column not in model"), 400
        limit = min(body.get("limit", cave.row_limit), cave.row_limit)
        warnings = [f'201 - "Limited query to {limit} rows'] if len(rows) >= limit else []
        rows = rows.iloc[:limit]
        if body.get("select_columns"):
            rows = rows[[column for column in rows if _stem(column) in body["select_columns"]]]
        rows = _in_resolution(rows, found.resolution_nm, body.get("desired_resolution"))
        return _arrow(rows, warnings, body.get("desired_resolution") or found.resolution_nm)


def _stem(column: str) -> str:
    return column[:-2] if column.endswith(("_x", "_y", "_z")) else column


def _selected(rows: pd.DataFrame, table: str, body: dict) -> pd.DataFrame | None:
    """Rows that all filters let pass, in an order that tells nothing; None if a column does not exist."""
    compared = {
        "filter_in_dict": lambda column, wanted: column.isin(wanted),
        "filter_notin_dict": lambda column, wanted: ~column.isin(wanted),
        "filter_equal_dict": lambda column, wanted: column == wanted,
        "filter_greater_dict": lambda column, wanted: column > wanted,
        "filter_less_dict": lambda column, wanted: column < wanted,
        "filter_greater_equal_dict": lambda column, wanted: column >= wanted,
        "filter_less_equal_dict": lambda column, wanted: column <= wanted,
    }
    keep = np.ones(len(rows), bool)
    for kind, holds in compared.items():
        for name, wanted in body.get(kind, {}).get(table, {}).items():
            if name not in rows:
                return None
            keep &= holds(rows[name], wanted).to_numpy()
    for name, (lower, upper) in body.get("filter_spatial_dict", {}).get(table, {}).items():
        for axis, low, high in zip("xyz", lower, upper, strict=True):
            keep &= rows[f"{name}_{axis}"].between(low, high).to_numpy()
    return rows[keep]


def _in_resolution(rows: pd.DataFrame, given, desired) -> pd.DataFrame:
    if not desired or tuple(desired) == tuple(given):
        return rows
    ratio = dict(zip("xyz", np.asarray(given) / np.asarray(desired), strict=True))
    positions = [name for name in rows if _stem(name) != name and _stem(name).endswith("position")]
    return rows.assign(**{name: rows[name] * ratio[name[-1]] for name in positions})


def _arrow(rows: pd.DataFrame, warnings: list[str], resolution) -> flask.Response:
    batch = pa.RecordBatch.from_pandas(rows, preserve_index=False)
    accepted = flask.request.headers.get("Accept-Encoding", "")
    options = pa.ipc.IpcWriteOptions(compression="zstd" if "zstd" in accepted else None)
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, batch.schema, options=options) as writer:
        writer.write_batch(batch)
    response = flask.Response(sink.getvalue(), mimetype="data.arrow")
    response.headers.extend([("Warning", text) for text in warnings])
    if None not in resolution:
        response.headers.extend([("dataframe_resolution", f"{float(size)}") for size in resolution])
    response.headers["column_names"] = json.dumps({})
    return response


def _add_chunked_graph(app: flask.Flask, cave: LoopbackCave) -> None:
    @app.get("/segmentation/api/versions")
    def graph_api_versions():
        return flask.jsonify([0, 1])

    @app.get("/segmentation/api/version")
    def graph_version():
        return flask.jsonify("2.18.0")

    @app.get(f"/segmentation/table/{CHUNKED_GRAPH}/info")
    def info():
        return flask.jsonify(cave.graph_info)

    @app.post(f"/segmentation/api/v1/table/{CHUNKED_GRAPH}/roots_binary")
    def roots_binary():
        data = flask.request.data
        if flask.request.headers.get("Content-Encoding") == "gzip":
            data = gzip.decompress(data)
        timestamp = float(flask.request.args["timestamp"])
        cave.n_root_requests += 1
        cave.root_timestamps.append(timestamp)
        return flask.Response(cave.roots_at(np.frombuffer(data, np.uint64), timestamp).tobytes())


def synapses(n: int, seed: int = 0, extent=(4000, 3000, 500), first_id: int = 2**53 + 1) -> pd.DataFrame:
    """A synapse table as materialized: ids above 2^53, positions in voxels, supervoxels and roots."""
    rng = np.random.default_rng(seed)
    table = pd.DataFrame({"id": first_id + rng.permutation(n), "created": pd.Timestamp("2020-01-01"), "valid": True})
    for side in ("pre", "post"):
        number = rng.integers(1, 1 + max(2, n // 20), n)
        table[f"{side}_pt_supervoxel_id"] = supervoxel(number)
        table[f"{side}_pt_root_id"] = root(number)
    points = rng.integers(0, extent, (n, 3))
    for side, shift in (("pre", -3), ("post", 3), ("ctr", 0)):
        for axis, name in enumerate("xyz"):
            table[f"{side}_pt_position_{name}"] = points[:, axis] + shift * (axis == 0)
    return table.assign(size=rng.integers(1, 1000, n))


def supervoxel(number):
    """Supervoxel ids, of layer 1 of the graph."""
    return (1 << 56) + np.asarray(number, np.int64)


def root(number, generation: int = 0):
    """Root ids, of the graph's highest layer."""
    return (9 << 56) + np.asarray(number, np.int64) + generation * 1_000_000


def graph_info(watershed: dict, data_dir: str) -> dict:
    """Description of a chunked graph over a precomputed watershed.

    Args:
        watershed: Its ``info``.
        data_dir: Its address.
    """
    bits = {str(layer): 10 for layer in range(1, 10)}
    return watershed | {
        "app": {"supported_api_versions": [0, 1]},
        "data_dir": data_dir,
        "graph": {
            "chunk_size": [32, 32, 8],
            "n_layers": 9,
            "n_bits_for_layer_id": 8,
            "spatial_bit_masks": bits,
            "cv_mip": 0,
        },
        "mesh": "mesh",
    }
