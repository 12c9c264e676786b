"""Views of a run too large for the page: filtered, coloured, drawn as tiles, and sets of synapses kept as bit masks.

A view is what the page asks for: filters, column, colours, classes that are hidden. The server keeps its mask, and
answers with counts; tiles, points of a window, lists and selections refer to it by its id. A selection is one bit a
synapse, which the page knows by an id too.
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any, Generic, NamedTuple, TypeVar

import numpy as np
from numba import njit

from synapseclr.errors import TableError
from synapseclr.explorer.label_tables import current_labels
from synapseclr.explorer.map_tiles import (
    DEEPEST,
    NO_CLASS,
    SELECTED,
    SHOWN,
    QuadTree,
    TileColours,
    png,
    quad_tree,
)
from synapseclr.explorer.run_outputs import Column, RunOutputs

MAX_POINTS = 200_000
"""Synapses that are sent to the page as single points."""

MAX_LISTED = 100
LABEL_COLUMN, NEURITE_COLUMN = "saved_label", "neurite"
NO_SELECTION = "none"

_RANGE_SAMPLE = 500_000  # synapses whose percentiles stand for those of all
_COLOUR = re.compile(r"#[0-9a-f]{6}", re.IGNORECASE)
_MAX_CORNERS = 5_000
_MISSING = -1  # the page's code of synapses without a value
# A mask or flags of ten million synapses take 10 MB, values 40 MB.
_KEPT_VIEWS, _KEPT_SELECTIONS, _KEPT_MASKS, _KEPT_VALUES, _KEPT_TILES = 24, 100, 8, 6, 1_000
_SIDES = {"outputs": "pre_root_id", "inputs": "post_root_id"}

T = TypeVar("T")


class Latest(Generic[T]):
    """The results that were used last, each made by one thread.

    Args:
        most: Number that is kept.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._kept: OrderedDict[Hashable, T] = OrderedDict()
        self._making: dict[Hashable, threading.Lock] = {}
        self._lock = threading.Lock()

    def get(self, key: Hashable) -> T | None:
        """The result of a key; None if it is not kept."""
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
            return self._kept.get(key)

    def known(self, key: Hashable, message: str) -> T:
        """The result of a key; raises TableError with this message if it is not kept."""
        found = self.get(key)
        if found is None:
            raise TableError(message)
        return found

    def put(self, key: Hashable, made: T) -> T:
        """Keep a result."""
        with self._lock:
            self._kept[key] = made
            self._kept.move_to_end(key)
            while len(self._kept) > self._most:
                self._kept.popitem(last=False)
        return made

    def once(self, key: Hashable, make: Callable[[], T]) -> T:
        """The result of a key, made if it is not kept."""
        with self._lock:
            making = self._making.setdefault(key, threading.Lock())
        with making:
            found = self.get(key)
            found = self.put(key, make()) if found is None else found
        with self._lock:
            self._making.pop(key, None)
        return found


@dataclass(frozen=True)
class MapView:
    """Description of what the page shows.

    Attributes:
        name: Its id.
        column_key: Key of the column.
        shown_key: Key of what is shown, which views may share.
        column: Column by which it is coloured; None: by none.
        is_shown_n: bool (n,).
        n_shown: Number of shown synapses.
        counts: Synapses that pass the filters, by class; of numbers those with a value by 0; -1: without a value.
        colours: Colours of the tiles.
    """

    name: str
    column_key: str
    shown_key: str
    column: Column | None
    is_shown_n: np.ndarray
    n_shown: int
    counts: dict[int, int]
    colours: TileColours


class Selection(NamedTuple):
    """A set of synapses, eight to a byte.

    Attributes:
        packed: uint8.
        n: Number of synapses in it.
    """

    packed: np.ndarray
    n: int


class SynapseViews:
    """Views and selections of a run.

    Args:
        outputs: The run.
        version: Part of all ids, so that they are of this server.
    """

    def __init__(self, outputs: RunOutputs, version: str) -> None:
        self._outputs, self._version = outputs, version
        self._trees: Latest[QuadTree] = Latest(len(outputs.planes))
        self._views: Latest[MapView] = Latest(_KEPT_VIEWS)
        self._selections: Latest[Selection] = Latest(_KEPT_SELECTIONS)
        self._masks: Latest[np.ndarray] = Latest(_KEPT_MASKS)
        self._flags: Latest[np.ndarray] = Latest(_KEPT_MASKS)
        self._values: Latest[np.ndarray] = Latest(_KEPT_VALUES)
        self._tiles: Latest[bytes] = Latest(_KEPT_TILES)
        self._made: Latest[Column] = Latest(4)
        self._ranges: Latest[np.ndarray] = Latest(1000)

    # Columns.

    def column(self, name: str, root: str = "") -> Column | None:
        """A column of the run, or one that is made here: saved labels, the synapses of a neurite."""
        found = self._keyed(name, root)
        return None if found is None else found[1]

    def _keyed(self, name: str, root: str) -> tuple[str, Column] | None:
        """A column, and a key that tells it from others of its name."""
        if name == LABEL_COLUMN and self._outputs.labels is not None:
            return self._label_column()
        if name == NEURITE_COLUMN and root.isdecimal():
            key = f"{name} {root}"
            return key, self._made.once(key, lambda: self._neurite_column(int(root)))
        column = self._outputs.columns.get(name)
        return None if column is None else (name, column)

    def _label_column(self) -> tuple[str, Column]:
        assert self._outputs.labels is not None
        found = current_labels(self._outputs.labels.read().labels, self._outputs.row_of_id)
        key = f"{LABEL_COLUMN} {[table['table'] for table in found['tables']]}"

        def made() -> Column:
            code_n = np.full(len(self._outputs), np.nan, np.float32)
            code_n[np.asarray(found["rows"], np.int64)] = found["codes"]
            return Column(LABEL_COLUMN, "saved label", "From this page", code_n, tuple(found["classes"]))

        return key, self._made.once(key, made)

    def _neurite_column(self, root: int) -> Column:
        code_n = np.full(len(self._outputs), np.nan, np.float32)
        sides = [self.neurite_rows(root, side) for side in _SIDES]
        for code, rows in enumerate(sides):
            code_n[rows] = code
        code_n[np.intersect1d(sides[0], sides[1])] = 2
        classes = ("its outputs", "its inputs", "from itself to itself")
        return Column(NEURITE_COLUMN, f"neurite {root}", "From this page", code_n, classes)

    def neurite_rows(self, root: int, side: str) -> np.ndarray:
        """Rows of a neurite's ``outputs`` or ``inputs``."""
        of_side = self._outputs.roots.get(_SIDES[side])
        is_root = root < 2**64 and of_side is not None
        return np.flatnonzero(of_side == np.uint64(root)) if is_root else np.empty(0, np.int64)

    def sample_quantiles(self, column: Column, shares: tuple[float, ...]) -> np.ndarray:
        """Quantiles of a column's values, of more than 500,000 synapses those of as many at random."""

        def made() -> np.ndarray:
            n = len(column.values_n)
            step = max(1, n // _RANGE_SAMPLE)
            value_m = np.asarray(column.values_n[np.random.default_rng(0).integers(step) :: step])
            known_m = value_m[np.isfinite(value_m)]
            return np.quantile(known_m, shares, method="lower") if len(known_m) else np.linspace(0, 1, len(shares))

        return self._ranges.once((column.name, column.label, shares), made)

    def histogram(self, column: Column, n_bars: int) -> dict[str, Any]:
        """Counts of a column's numbers in equal bars between the percentiles 1 and 99.

        Returns:
            ``low``, ``high``: ends of the bars; ``smallest``, ``largest``; ``counts``; ``nMissing``.
        """
        low, high = self.sample_quantiles(column, (0.01, 0.99)).tolist()
        counts, smallest, largest, n_known = _bars(column.values_n, low, high if high > low else low + 1.0, n_bars)
        if high <= low:
            low, high = (smallest, largest) if largest > smallest else (low, low + 1.0)
            counts, smallest, largest, n_known = _bars(column.values_n, low, high, n_bars)
        ends = {"low": low, "high": high, "smallest": float(smallest), "largest": float(largest)}
        return ends | {"counts": counts.tolist(), "nMissing": len(column.values_n) - int(n_known)}

    # Views.

    def view(self, body: Any) -> MapView:
        """Make a view.

        Args:
            body: ``filters``: as in the address of the page, ``name`` and either ``classes`` or ``low``, ``high``,
                ``missing``; ``colour``: name of a column; ``neuron``: root id of the column ``neurite``; ``hidden``:
                codes of classes; ``low``, ``high``: ends of the colours, None: percentiles 2 and 98; ``paint``:
                ``unknown``, ``classes``, ``ramp``, colours as ``#rrggbb``.

        Raises:
            TableError: If it is none.
        """
        body = body if isinstance(body, dict) else {}
        root = str(body.get("neuron") or "")
        column_key, column = self._keyed(str(body.get("colour") or ""), root) or ("", None)
        filters = [self._filter(each, root) for each in _list_of(body, "filters", 100)]
        hidden = sorted({int(code) for code in _list_of(body, "hidden", 300) if isinstance(code, int)})
        mask_key = json.dumps([key for key, _, _ in filters])
        shown_key = json.dumps([mask_key, column_key, hidden]) if hidden else mask_key
        paint = body["paint"] if isinstance(body.get("paint"), dict) else {}
        key = json.dumps([self._version, shown_key, column_key, body.get("low"), body.get("high"), paint])
        name = hashlib.sha256(key.encode()).hexdigest()[:20]

        def made() -> MapView:
            is_passing_n = self._masks.once(mask_key, lambda: self._passing(filters))
            counts, is_shown_n = {}, is_passing_n
            if column is not None:
                are_codes, n_codes = bool(column.class_names), max(len(column.class_names), 1)
                count_c = _count_codes(column.values_n, is_passing_n, n_codes, are_codes)
                counts = {code: int(n) for code, n in enumerate(count_c[:-1]) if n}
                if count_c[-1]:
                    counts[_MISSING] = int(count_c[-1])
                if hidden:
                    is_shown_n = is_passing_n.copy()
                    _leave(column.values_n, _allowed(column, hidden, is_hidden=True), are_codes, is_shown_n)
            colours = self._colours(column, paint, body.get("low"), body.get("high"))
            n_shown = int(np.count_nonzero(is_shown_n))
            return MapView(name, column_key, shown_key, column, is_shown_n, n_shown, counts, colours)

        return self._views.once(name, made)

    def warm_up(self) -> None:
        """Compile or load the loops, and read what the first page will ask for."""
        columns = self._outputs.columns.values()
        first = next((column for column in columns if column.class_names), next(iter(columns), None))
        plane = next(iter(self._outputs.planes))
        if first is not None and not self.is_solid(plane):
            paint = {"unknown": "#808080", "classes": ["#808080"] * len(first.class_names), "ramp": []}
            self.tile(self.view({"colour": first.name, "paint": paint}).name, NO_SELECTION, plane, 0, 0, 0)

    def viewed(self, name: str) -> MapView:
        """Find a view by its id; raises TableError if it is not kept."""
        return self._views.known(name, "The explorer has forgotten what this page shows: load the page again.")

    def _filter(self, given: Any, root: str) -> tuple[str, Column, dict[str, Any]]:
        found = self._keyed(str(given.get("name")), root) if isinstance(given, dict) else None
        if found is None:
            raise TableError("A filter is of no column of this run.")
        return f"{found[0]} {json.dumps(given, sort_keys=True)}", found[1], given

    def _passing(self, filters: list[tuple[str, Column, dict[str, Any]]]) -> np.ndarray:
        """Synapses that pass all filters, bool (n,)."""
        is_passing_n = np.ones(len(self._outputs), bool)
        for _, column, given in filters:
            if isinstance(given.get("classes"), list):
                codes = [code for code in given["classes"] if isinstance(code, int)]
                _leave(column.values_n, _allowed(column, codes, is_hidden=False), True, is_passing_n)
            else:
                low, high = _number(given.get("low"), -np.inf), _number(given.get("high"), np.inf)
                _keep_between(column.values_n, low, high, bool(given.get("missing")), is_passing_n)
        return is_passing_n

    def _colours(self, column: Column | None, paint: Any, low: Any, high: Any) -> TileColours:
        unknown_3 = _colour(paint.get("unknown", "#9a9a9a"))
        if column is None:
            return TileColours(unknown_3)
        if column.class_names:
            given = [_colour(each) for each in _list_of(paint, "classes", NO_CLASS)]
            if len(given) < len(column.class_names):
                raise TableError("The request lacks colours of classes.")
            return TileColours(unknown_3, np.array(given[: len(column.class_names)], np.uint8))
        stops = [_colour(each) for each in _list_of(paint, "ramp", 256)] or [unknown_3]
        share_s = np.linspace(0, len(stops) - 1, 256)
        ramp = [np.interp(share_s, np.arange(len(stops)), [stop[c] for stop in stops]) for c in range(3)]
        usual = self.sample_quantiles(column, (0.0, 0.02, 0.98, 1.0))
        inner = usual[1:3] if usual[2] > usual[1] else usual[[0, 3]]
        low, high = _number(low, float(inner[0])), _number(high, float(inner[1]))
        high = high if high > low else low + 1
        return TileColours(unknown_3, None, np.round(np.stack(ramp, axis=1)).astype(np.uint8), low, high)

    # Maps.

    def tree(self, plane: str) -> QuadTree:
        """Quadtree of a map in a plane.

        Raises:
            TableError: If there is no such map.
        """
        plane_nd = self._outputs.planes.get(plane)
        if plane_nd is None or plane_nd.shape[1] != 2:
            raise TableError(f"This run has no map in a plane named '{plane}'.")
        stored = {} if self._outputs.mapped is None else self._outputs.mapped.trees
        return stored[plane] if plane in stored else self._trees.once(plane, lambda: quad_tree(plane_nd))

    def _flags_of(self, view: MapView, selection: str, plane: str) -> np.ndarray:
        """Flags of all synapses, in the order of a map's tree."""

        def made() -> np.ndarray:
            flag_n = view.is_shown_n.astype(np.uint8) * np.uint8(SHOWN)
            if selection != NO_SELECTION:
                flag_n |= self.mask(selection).astype(np.uint8) * np.uint8(SELECTED)
            return flag_n[self.tree(plane).row_m]

        return self._flags.once((view.shown_key, selection, plane), made)

    def _values_of(self, view: MapView, plane: str) -> np.ndarray | None:
        """Values of a view's column in the order of a map's tree; of classes their codes."""
        column = view.column
        if column is None:
            return None

        def made() -> np.ndarray:
            value_m = column.values_n[self.tree(plane).row_m]
            if not column.class_names:
                return np.asarray(value_m, np.float32)
            return np.where(np.isnan(value_m), NO_CLASS, value_m).astype(np.uint8)

        return self._values.once((view.column_key, plane), made)

    def tile(self, name: str, selection: str, plane: str, level: int, x: int, y: int) -> bytes:
        """Draw a tile of a view as PNG; see :meth:`QuadTree.tile`.

        Raises:
            TableError: If there is no such view, selection, map or tile.
        """
        view = self.viewed(name)
        if not 0 <= level <= DEEPEST or not 0 <= min(x, y) <= max(x, y) < 2**level:
            raise TableError("There is no such tile.")

        def made() -> bytes:
            values, flags = self._values_of(view, plane), self._flags_of(view, selection, plane)
            tree = self.tree(plane)
            return png(tree.tile(level, x, y, values, flags, view.colours, selection != NO_SELECTION))

        return self._tiles.once((name, selection, plane, level, x, y), made)

    def points(self, name: str, plane: str, window: tuple[float, float, float, float]) -> np.ndarray | None:
        """Find the shown synapses of a window of a map, or, of a map in space, a sample of all.

        Args:
            name: Id of the view.
            plane: Name of the map.
            window: Ends in x, then in y; not used of a map in space.

        Returns:
            Rows, int64; None if they are more than 200,000.
        """
        view = self.viewed(name)
        if self.is_solid(plane):
            rows = np.flatnonzero(view.is_shown_n)
            if len(rows) > MAX_POINTS:
                rows = np.sort(np.random.default_rng(0).choice(rows, MAX_POINTS, replace=False, shuffle=False))
            return rows
        tree = self.tree(plane)
        place_p = tree.in_window(window[:2], window[2:], self._flags_of(view, NO_SELECTION, plane), MAX_POINTS)
        return None if place_p is None else tree.row_m[place_p].astype(np.int64)

    def is_solid(self, plane: str) -> bool:
        """Tell a map in space from one in a plane."""
        return plane in self._outputs.planes and self._outputs.planes[plane].shape[1] == 3

    def packed_points(self, name: str, selection: str, plane: str, rows: np.ndarray) -> bytes:
        """Ids, places, values and selection of points, for the page.

        Returns:
            int64 ids, float32 coordinates of one axis after the other, float32 values, uint8 1 for selected ones.
        """
        view, plane_nd = self.viewed(name), self._outputs.planes[plane]
        at_pd = np.asarray(plane_nd[rows], "<f4")
        value_p = np.full(len(rows), np.nan, "<f4") if view.column is None else view.column.values_n[rows].astype("<f4")
        is_chosen_p = np.zeros(len(rows), np.uint8) if selection == NO_SELECTION else self.contains(selection, rows)
        ids = self._outputs.synapse_id[rows].astype("<i8")
        return b"".join([ids.tobytes(), at_pd.T.tobytes(), value_p.tobytes(), is_chosen_p.astype(np.uint8).tobytes()])

    def nearest(self, name: str, plane: str, x: float, y: float, reach: float) -> int:
        """Row of the shown synapse that is nearest to a place of a map; -1 if none is within reach."""
        return self.tree(plane).nearest(x, y, reach, self._flags_of(self.viewed(name), NO_SELECTION, plane))

    # Sets.

    def select(self, body: Any, rows_of: Callable[[Any], list[int]]) -> str:
        """Keep a set of synapses.

        Args:
            body: One of ``ids``; ``label``: a saved one; ``neurite``, a root id, with ``side``: outputs, inputs or
                all; or ``view`` with ``outline``, the ``x`` and ``y`` of its corners on the map ``plane``, or without
                one, for all that it shows. ``operation``: add to the selection ``base``, or subtract from it.
            rows_of: Finds the rows of a request's ``ids``.

        Returns:
            Id of the selection.

        Raises:
            TableError: If it is none of these.
        """
        body = body if isinstance(body, dict) else {}
        is_chosen_n = np.zeros(len(self._outputs), bool)
        if "ids" in body:
            is_chosen_n[np.asarray(rows_of(body), np.int64)] = True
        elif "label" in body:
            column = self.column(LABEL_COLUMN)
            if column is None or body["label"] not in column.class_names:
                raise TableError("No synapse has this label.")
            is_chosen_n = np.asarray(column.values_n == column.class_names.index(body["label"]))
        elif "neurite" in body:
            sides = list(_SIDES) if body.get("side") == "all" else [str(body.get("side"))]
            if not str(body["neurite"]).isdecimal() or any(side not in _SIDES for side in sides):
                raise TableError("A neurite is asked for by its root id, with side: outputs, inputs or all.")
            for side in sides:
                is_chosen_n[self.neurite_rows(int(body["neurite"]), side)] = True
        else:
            is_chosen_n = self._drawn(body)
        base, operation = str(body.get("base", NO_SELECTION)), body.get("operation", "new")
        if base != NO_SELECTION and operation in ("add", "subtract"):
            before_n = self.mask(base)
            is_chosen_n = before_n | is_chosen_n if operation == "add" else before_n & ~is_chosen_n
        packed, n = np.packbits(is_chosen_n), int(np.count_nonzero(is_chosen_n))
        name = hashlib.sha256(self._version.encode() + packed.tobytes()).hexdigest()[:20] if n else NO_SELECTION
        self._selections.put(name, Selection(packed, n))
        return name

    def _drawn(self, body: dict[str, Any]) -> np.ndarray:
        """Synapses that are shown, all of them or those within an outline."""
        view = self.viewed(str(body.get("view")))
        outline = body.get("outline")
        if outline is None:
            return view.is_shown_n
        corners = [_list_of(outline, axis, _MAX_CORNERS) for axis in "xy"] if isinstance(outline, dict) else [[], []]
        if (
            len(corners[0]) != len(corners[1])
            or len(corners[0]) < 3
            or not all(isinstance(value, int | float) and np.isfinite(value) for axis in corners for value in axis)
        ):
            raise TableError("An outline has at least three corners, with x and y.")
        is_inside_n = np.zeros(len(self._outputs), bool)
        is_inside_n[self.tree(str(body.get("plane"))).inside(*corners)] = True
        return is_inside_n & view.is_shown_n

    def selection(self, name: str) -> Selection:
        """Find a selection by its id; raises TableError if it is not kept."""
        return self._selections.known(name, "The explorer has forgotten this selection: draw it again.")

    def mask(self, name: str) -> np.ndarray:
        """Synapses of a selection, bool (n,)."""
        return np.unpackbits(self.selection(name).packed, count=len(self._outputs)).view(bool)

    def rows(self, name: str) -> np.ndarray:
        """Rows of a selection, int64."""
        return np.flatnonzero(self.mask(name))

    def contains(self, name: str, rows: np.ndarray) -> np.ndarray:
        """Tell which rows are in a selection, uint8 0 or 1."""
        packed = self.selection(name).packed
        return packed[rows >> 3] >> (7 - (rows & 7)).astype(np.uint8) & np.uint8(1)

    def page(self, rows: np.ndarray, column: Column | None, is_descending: bool, start: int, count: int) -> np.ndarray:
        """Part of a list of rows, sorted by a column, those without a value last; as they are without a column."""
        count = min(count, MAX_LISTED)
        if column is None:
            return rows[start : start + count]
        value_r = np.asarray(column.values_n[rows], np.float64)
        key_r = np.where(np.isnan(value_r), np.inf, -value_r if is_descending else value_r)
        stop = min(start + count, len(rows))
        if stop <= start:
            return rows[:0]
        if stop < len(rows):
            first = np.sort(np.argpartition(key_r, stop - 1)[:stop])
            return rows[first][np.argsort(key_r[first], kind="stable")][start:stop]
        return rows[np.argsort(key_r, kind="stable")][start:stop]


def _list_of(body: Any, name: str, most: int) -> list[Any]:
    found = body.get(name) if isinstance(body, dict) else None
    found = [] if found is None else found
    if not isinstance(found, list) or len(found) > most:
        raise TableError(f"The request's {name} are not a list of at most {most:,}.")
    return found


def _number(value: Any, otherwise: float) -> float:
    is_number = isinstance(value, int | float) and not isinstance(value, bool) and np.isfinite(value)
    return float(value) if is_number else otherwise


def _colour(text: Any) -> np.ndarray:
    if not isinstance(text, str) or not _COLOUR.fullmatch(text):
        raise TableError("A colour is written as #rrggbb.")
    return np.array([int(text[at : at + 2], 16) for at in (1, 3, 5)], np.uint8)


def _allowed(column: Column, codes: list[int], is_hidden: bool) -> np.ndarray:
    """Tell of each class, and at last of synapses without one, if its synapses stay: bool (c + 1,)."""
    n = max(len(column.class_names), 1)
    is_named_c = np.zeros(n + 1, bool)
    is_named_c[[n if code == _MISSING else code for code in codes if _MISSING <= code < n]] = True
    return ~is_named_c if is_hidden else is_named_c


@njit(nogil=True, cache=True)
def _keep_between(value_n: Any, low: float, high: float, keeps_missing: bool, is_passing_n: Any) -> None:
    for row in range(value_n.shape[0]):
        value = np.float64(value_n[row])
        if np.isnan(value):
            is_passing_n[row] &= keeps_missing
        else:
            is_passing_n[row] &= low <= value <= high


@njit(nogil=True, cache=True)
def _leave(value_n: Any, is_allowed_c: Any, are_codes: bool, is_passing_n: Any) -> None:
    last = is_allowed_c.shape[0] - 1
    for row in range(value_n.shape[0]):
        value = value_n[row]
        code = last if np.isnan(value) else (int(value) if are_codes else 0)
        is_passing_n[row] &= is_allowed_c[code]


@njit(nogil=True, cache=True)
def _count_codes(value_n: Any, is_passing_n: Any, n_classes: int, are_codes: bool) -> Any:
    count_c = np.zeros(n_classes + 1, np.int64)
    for row in range(value_n.shape[0]):
        if is_passing_n[row]:
            value = value_n[row]
            count_c[n_classes if np.isnan(value) else (int(value) if are_codes else 0)] += 1
    return count_c


@njit(nogil=True, cache=True)
def _bars(value_n: Any, low: float, high: float, n_bars: int) -> Any:
    count_b = np.zeros(n_bars, np.int64)
    smallest, largest, n_known = np.inf, -np.inf, 0
    for row in range(value_n.shape[0]):
        value = np.float64(value_n[row])
        if np.isfinite(value):
            n_known += 1
            smallest, largest = min(smallest, value), max(largest, value)
            share = (value - low) / (high - low)
            count_b[max(0, min(n_bars - 1, int(np.floor(n_bars * share))))] += 1
    return count_b, smallest, largest, n_known
