"""Addresses of a run too large for the page: views, tiles, points of a window, lists, selections, neurites.

They are there at any size; the page asks for them above 300,000 synapses, and else reads whole columns.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from synapseclr.errors import TableError
from synapseclr.explorer.exports import readable_values
from synapseclr.explorer.map_tiles import DEEPEST, TILE_PX, square_of
from synapseclr.explorer.map_views import LABEL_COLUMN, MAX_LISTED, MAX_POINTS, NO_SELECTION, SynapseViews
from synapseclr.explorer.run_outputs import RunOutputs

if TYPE_CHECKING:
    from flask import Flask, Response

_TOO_MANY = 2**32 - 1  # in the place of the number of points
_LISTED_PARTNERS = 20
_CSV_ROWS = 100_000
_MAX_BARS = 200


def large_overview(outputs: RunOutputs) -> dict[str, Any]:
    """Tell the page how to ask for what it cannot hold: tiles, extents of the maps, numbers that are sent at a time."""
    extents = {}
    for name, plane_nd in outputs.planes.items():
        low, side = square_of(plane_nd)
        ends = [
            [float(np.nanmin(plane_nd[:, axis])), float(np.nanmax(plane_nd[:, axis]))]
            for axis in range(plane_nd.shape[1])
        ]
        extents[name] = {"ends": ends, "low": low, "side": side}
    return {
        "extents": extents,
        "tile_px": TILE_PX,
        "deepest": DEEPEST,
        "max_points": MAX_POINTS,
        "can_find_defects": outputs.mapped is None,
    }


def add_map_routes(
    app: Flask,
    outputs: RunOutputs,
    views: SynapseViews,
    rows_of: Callable[[Any], list[int]],
    id_of: Callable[[str], int],
) -> None:
    """Add the addresses to the web server.

    Args:
        app: The server.
        outputs: The run.
        views: Its views and selections.
        rows_of: Finds the rows of a request's ``ids``.
        id_of: Reads a synapse id.
    """
    from flask import Response, abort, jsonify, request

    def kept(content: bytes, kind: str) -> Response:
        """A response that never changes: its address has the digest of all that it shows."""
        response = Response(content, mimetype=kind)
        response.headers["Cache-Control"] = "private, max-age=3600, immutable"
        return response

    def number(name: str) -> float:
        value = request.args.get(name, type=float)
        if value is None or not np.isfinite(value):
            raise TableError(f"The request lacks the number '{name}'.")
        return value

    def plane_named(place: str) -> str:
        names = list(outputs.planes)
        if not place.isdecimal() or int(place) >= len(names):
            abort(404, "There is no such plane.")
        return names[int(place)]

    @app.post("/api/view")
    def view() -> Response:
        found = views.view(request.json)
        shown = {"view": found.name, "n": found.n_shown, "counts": [[code, n] for code, n in found.counts.items()]}
        return jsonify(shown | {"low": found.colours.low, "high": found.colours.high})

    @app.get("/api/tile/<name>/<selection>/<plane>/<int:level>/<int:x>/<int:y>.png")
    def tile(name: str, selection: str, plane: str, level: int, x: int, y: int) -> Response:
        return kept(views.tile(name, selection, plane_named(plane), level, x, y), "image/png")

    @app.get("/api/points/<name>/<selection>/<plane>.bin")
    def points(name: str, selection: str, plane: str) -> Response:
        named = plane_named(plane)
        window = (0.0, 0.0, 0.0, 0.0)
        if not views.is_solid(named):
            window = (number("left"), number("right"), number("bottom"), number("top"))
        rows = views.points(name, named, window)
        n = _TOO_MANY if rows is None else len(rows)
        body = b"" if rows is None else views.packed_points(name, selection, named, rows)
        return kept(np.array([n, 0], "<u4").tobytes() + body, "application/octet-stream")

    @app.get("/api/nearest/<name>/<plane>.json")
    def nearest(name: str, plane: str) -> Response:
        row = views.nearest(name, plane_named(plane), number("x"), number("y"), number("reach"))
        return jsonify(id=None if row < 0 else str(outputs.synapse_id[row]))

    @app.get("/api/synapse/<synapse_id>/place/<plane>.json")
    def place(synapse_id: str, plane: str) -> Response:
        row = outputs.row_of_id.get(id_of(synapse_id))
        if row is None:
            return jsonify(place=None)
        return jsonify(place=[float(at) for at in outputs.planes[plane_named(plane)][row]])

    @app.get("/api/histogram/<column>.json")
    def histogram(column: str) -> Response:
        found = views.column(column)
        if found is None or found.class_names:
            abort(404, "There is no such column of numbers.")
        return jsonify(views.histogram(found, int(min(max(number("bars"), 1), _MAX_BARS))))

    @app.post("/api/selections")
    def select() -> Response:
        name = views.select(request.json, rows_of)
        return jsonify(selection=name, n=views.selection(name).n)

    @app.post("/api/list")
    def listed() -> Response:
        """Part of what is selected or shown, sorted."""
        body = request.json if isinstance(request.json, dict) else {}
        column = views.column(str(body.get("column") or ""), str(body.get("neuron") or ""))
        start, count = body.get("start", 0), body.get("count", MAX_LISTED)
        if not all(isinstance(each, int) and not isinstance(each, bool) and each >= 0 for each in (start, count)):
            raise TableError("The request's start and count are not whole numbers.")
        chosen = str(body.get("selection") or NO_SELECTION)
        if chosen != NO_SELECTION:
            rows = views.rows(chosen)
        else:
            rows = np.flatnonzero(views.viewed(str(body.get("view"))).is_shown_n)
        if body.get("known") and column is not None:
            rows = rows[np.isfinite(column.values_n[rows])]
        page = views.page(rows, column, bool(body.get("descending")), start, count)
        values = [None] * len(page) if column is None else [_plain(value) for value in column.values_n[page].tolist()]
        synapses = [
            {"id": str(outputs.synapse_id[row]), "value": value} for row, value in zip(page, values, strict=True)
        ]
        return jsonify(n=len(rows), synapses=synapses)

    @app.get("/api/selections/<name>.csv")
    def table(name: str) -> Response:
        rows, names = views.rows(name), request.args.getlist("column")
        response = Response(_csv(outputs, views, rows, names), mimetype="text/csv")
        response.headers["Content-Disposition"] = "attachment; filename=synapses.csv"
        return response

    @app.get("/api/neurite/<root>.json")
    def neurite(root: str) -> Response:
        if not root.isdecimal() or int(root) >= 2**64:
            abort(404, "That is no root id.")
        sides = {side: views.neurite_rows(int(root), side) for side in ("outputs", "inputs")}
        found: dict[str, Any] = {"root": root, "n": len(np.union1d(*sides.values()))}
        for side, name, other in (("outputs", "targets", "post_root_id"), ("inputs", "sources", "pre_root_id")):
            roots = outputs.roots.get(other, np.empty(0, np.uint64))
            partners, counts = np.unique(roots[sides[side]] if len(roots) else roots, return_counts=True)
            known = partners != 0
            order = np.argsort(-counts[known], kind="stable")
            pairs = zip(partners[known][order].tolist(), counts[known][order].tolist(), strict=True)
            found[side] = len(sides[side])
            found[name] = [[str(partner), n] for partner, n in list(pairs)[:_LISTED_PARTNERS]]
            found[f"n_{name}"] = int(known.sum())
        return jsonify(found)

    @app.get("/api/label-counts.json")
    def label_counts() -> Response:
        if outputs.labels is None:
            abort(404, "There are no labels.")
        column = views.column(LABEL_COLUMN)
        names = () if column is None else column.class_names
        counts: list[int] = []
        if column is not None:
            codes = column.values_n[np.isfinite(column.values_n)].astype(int)
            counts = np.bincount(codes, minlength=len(names)).tolist()
        saved, damaged = outputs.labels.read()
        tables = saved.groupby(["table", "label"], sort=False).size().reset_index(name="n").to_dict("records")
        return jsonify(classes=names, counts=counts, tables=tables[::-1], damaged=damaged)


def _plain(value: float) -> float | None:
    return value if np.isfinite(value) else None


def _csv(outputs: RunOutputs, views: SynapseViews, rows: np.ndarray, names: list[str]) -> Iterator[str]:
    """Ids and columns of a set, some rows at a time: classes by name, missing values empty, root ids in full."""
    columns: list[Callable[[np.ndarray], list[Any]]] = []
    for name in names:
        column = views.column(name)
        if name in outputs.roots:
            columns.append(partial(_root_texts, outputs.roots[name]))
        elif column is not None:
            columns.append(partial(readable_values, column))
        else:
            raise TableError(f"This run has no column '{name[:40]}'.")

    def parts() -> Iterator[str]:
        yield _lines([["synapse_id", *names]])
        for start in range(0, len(rows), _CSV_ROWS):
            part = rows[start : start + _CSV_ROWS]
            ids = outputs.synapse_id[part].tolist()
            yield _lines(zip(ids, *(read(part) for read in columns), strict=True))

    return parts()


def _root_texts(root_id_n: np.ndarray, rows: np.ndarray) -> list[Any]:
    return [root or "" for root in root_id_n[rows].tolist()]


def _lines(rows: Any) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()
