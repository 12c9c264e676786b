"""Density tiles of a map of millions of synapses, and windows and outlines on it, from the order of a quadtree.

The square around a map is halved 16 times in both directions; a synapse's key interleaves the bits of its two cell
numbers (Morton order). In the order of the keys, the synapses of every tile of every zoom level lie one after the
other, so that a tile is one pass over them, and a window or an outline a few hundred ranges. Neither a pyramid nor a
second copy of the values is kept: filters and colours change, and all ten million synapses are summed in 0.1 s.

Source: Morton 1966, A computer oriented geodetic data base and a new technique in file sequencing.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import njit

TILE_PX = 256
"""Pixels of a tile, in both directions."""

_BITS = 16
DEEPEST = _BITS - 8
"""Last zoom level with tiles of its own: a pixel is one cell."""

SHOWN, SELECTED = 1, 2
"""Bits of a synapse's flags."""

NO_CLASS = 255
"""Code of synapses without a class."""

Ends = Sequence[float] | np.ndarray

_CELLS_ACROSS = 128  # of an outline
_WINDOW_CELLS = 16
_FAINTEST = 0.3  # opacity of a pixel with one synapse
_DENSE = 0.99  # share of the pixels that are not opaque
_PALE = 0.16  # opacity that is left to what is not selected


@dataclass(frozen=True)
class TileColours:
    """Colours of a tile, uint8 of red, green and blue.

    Attributes:
        unknown_3: Of synapses without a value.
        classes_c3: Of each class; None: values are numbers.
        ramp_s3: Of numbers, from ``low`` to ``high``.
        low: Number of the first colour.
        high: Number of the last one.
    """

    unknown_3: np.ndarray
    classes_c3: np.ndarray | None = None
    ramp_s3: np.ndarray | None = None
    low: float = 0.0
    high: float = 1.0


@dataclass(frozen=True)
class QuadTree:
    """The synapses of a map in a plane, in the order of a quadtree.

    Attributes:
        plane_n2: float32 (n, 2), places; a synapse without one is on no tile.
        key_m: uint32 (m,), ascending.
        row_m: uint32 (m,), row of each key.
        low: Lower ends of the square.
        side: Its length.
        dense_l: Synapses of a pixel from which on it is opaque, by zoom level: the 99th percentile of the pixels that
            have any.
    """

    plane_n2: np.ndarray
    key_m: np.ndarray
    row_m: np.ndarray
    low: tuple[float, float]
    side: float
    dense_l: tuple[float, ...]

    def span(self, level: int, x: int, y: int) -> slice:
        """Places in the order that a tile has; tiles are counted from the lower ends."""
        cell = int(_interleaved(np.array([x], np.uint32), np.array([y], np.uint32))[0])
        starts, stops = self._ranges(np.array([cell], np.uint64), level)
        return slice(int(starts[0]), int(stops[0]))

    def _ranges(self, cell_c: np.ndarray, level: int) -> tuple[np.ndarray, np.ndarray]:
        """Begin and end of the cells of a level in the order."""
        shift = np.uint64(2 * (_BITS - level))
        last_c = ((cell_c + np.uint64(1)) << shift) - np.uint64(1)
        starts = np.searchsorted(self.key_m, (cell_c << shift).astype(np.uint32))  # of the same type: no copy
        return starts, np.searchsorted(self.key_m, last_c.astype(np.uint32), side="right")

    def _cells(self, x: Ends, y: Ends, level: int) -> list[tuple[int, int]]:
        """First and last cell, by axis, of a box."""
        found = []
        for axis, ends in enumerate((x, y)):
            share = (np.sort(np.asarray(ends, np.float64)) - self.low[axis]) / self.side * 2**level
            # A place on the edge of a cell may have been counted to either side.
            first, last = np.floor(share[0] - 1e-6), np.floor(share[1] + 1e-6)
            found.append((int(np.clip(first, 0, 2**level)), int(np.clip(last, -1, 2**level - 1))))
        return found

    def _level_of(self, length: float, n_cells: int) -> int:
        """Level at which a length has at most so many cells."""
        if length <= 0:
            return _BITS
        return int(np.clip(np.floor(np.log2(n_cells * self.side / length)), 0, _BITS))

    def in_window(self, x: Ends, y: Ends, flag_m: np.ndarray, most: int) -> np.ndarray | None:
        """Find the shown synapses of a window.

        Args:
            x: Its ends.
            y: Its ends.
            flag_m: Flags in the order of the tree.
            most: Largest number that is wanted.

        Returns:
            Places in the order, int64; None if they are more.
        """
        level = self._level_of(max(abs(x[1] - x[0]), abs(y[1] - y[0])), _WINDOW_CELLS)
        (x_first, x_last), (y_first, y_last) = self._cells(x, y, level)
        across, up = np.arange(x_first, x_last + 1, dtype=np.uint32), np.arange(y_first, y_last + 1, dtype=np.uint32)
        cell_c = np.sort(_interleaved(np.repeat(across, len(up)), np.tile(up, len(across))).astype(np.uint64))
        if not len(cell_c):
            return np.empty(0, np.int64)
        starts, stops = self._ranges(cell_c, level)
        place_p = np.empty(3 * most + 1000, np.int64)  # cells at the edge reach beyond the window
        n = _flagged(flag_m, starts, stops, place_p)
        if n < 0:
            return None
        place_p = place_p[:n]
        at_p2 = self.plane_n2[self.row_m[place_p]]
        low, high = [min(x), min(y)], [max(x), max(y)]
        place_p = place_p[((at_p2 >= low) & (at_p2 <= high)).all(axis=1)]
        return place_p if len(place_p) <= most else None

    def nearest(self, x: float, y: float, reach: float, flag_m: np.ndarray, most: int = 2_000_000) -> int:
        """Find the row of the shown synapse that is nearest to a place; -1 if none is within reach."""
        place_p = self.in_window((x - reach, x + reach), (y - reach, y + reach), flag_m, most)
        if place_p is None or not len(place_p):
            return -1
        row_p = self.row_m[place_p]
        apart_p = ((self.plane_n2[row_p].astype(np.float64) - [x, y]) ** 2).sum(axis=1)
        nearest = int(np.argmin(apart_p))
        return int(row_p[nearest]) if apart_p[nearest] <= reach**2 else -1

    def inside(self, x_c: Ends, y_c: Ends) -> np.ndarray:
        """Rows of the synapses inside of an outline (even-odd rule), uint32, in no order.

        Cells that no edge touches are taken or left as a whole; only in the others are places compared.

        Args:
            x_c: Its corners.
            y_c: Its corners.
        """
        corner_x, corner_y = np.asarray(x_c, np.float64), np.asarray(y_c, np.float64)
        level = self._level_of(max(np.ptp(corner_x), np.ptp(corner_y)), _CELLS_ACROSS)
        (x_first, x_last), (y_first, y_last) = self._cells(
            (corner_x.min(), corner_x.max()), (corner_y.min(), corner_y.max()), level
        )
        if x_first > x_last or y_first > y_last:
            return np.empty(0, np.uint32)
        is_edge_xy = np.zeros((x_last - x_first + 1, y_last - y_first + 1), bool)
        for at in range(len(corner_x)):
            ends = [at - 1, at]
            (left, right), (bottom, top) = self._cells(corner_x[ends], corner_y[ends], level)
            is_edge_xy[max(left - x_first, 0) : right - x_first + 1, max(bottom - y_first, 0) : top - y_first + 1] = (
                True
            )
        across, up = np.indices(is_edge_xy.shape)
        cell = self.side / 2**level
        centre_x = self.low[0] + (across.ravel() + x_first + 0.5) * cell
        centre_y = self.low[1] + (up.ravel() + y_first + 0.5) * cell
        is_inside_xy = _inside(centre_x, centre_y, corner_x, corner_y).reshape(is_edge_xy.shape)
        keys_xy = _interleaved((across + x_first).astype(np.uint32), (up + y_first).astype(np.uint32)).astype(np.uint64)
        found = [self._rows(np.sort(keys_xy[is_inside_xy & ~is_edge_xy]), level)]
        compared = self._rows(np.sort(keys_xy[is_edge_xy]), level)
        at_p2 = self.plane_n2[compared].astype(np.float64)
        found.append(compared[_inside(at_p2[:, 0], at_p2[:, 1], corner_x, corner_y)])
        return np.concatenate(found)

    def _rows(self, cell_c: np.ndarray, level: int) -> np.ndarray:
        starts, stops = self._ranges(cell_c, level)
        return _taken(self.row_m, starts, stops, int((stops - starts).sum()))

    def tile(
        self,
        level: int,
        x: int,
        y: int,
        value_m: np.ndarray | None,
        flag_m: np.ndarray,
        colours: TileColours,
        has_selection: bool = False,
    ) -> np.ndarray:
        """Draw a tile: mean of numbers, mixture of the colours of classes, as opaque as its synapses are many.

        Args:
            level: Zoom level, 0 to 8; there are ``2**level`` tiles in both directions.
            x: Number of the tile from the left.
            y: Number of the tile from the lower end.
            value_m: Values in the order of the tree: float32, NaN without one; uint8 codes of classes; None: all alike.
            flag_m: uint8 flags in the order of the tree.
            colours: The colours.
            has_selection: Synapses are selected, here or elsewhere: all others are pale.

        Returns:
            uint8 (256, 256, 4): red, green, blue, opacity; the first row is the lowest one.
        """
        span = self.span(level, x, y)
        key_t, flag_t = self.key_m[span], flag_m[span]
        value_t = None if value_m is None else value_m[span]
        shift, dense = 2 * (DEEPEST - level), self.dense_l[level]
        drawn_p4 = _drawn(key_t, value_t, flag_t, SHOWN, shift, dense, colours)
        if has_selection:
            drawn_p4[:, 3] *= _PALE
            drawn_p4 = _over(_drawn(key_t, value_t, flag_t, SHOWN | SELECTED, shift, dense, colours), drawn_p4)
        picture = np.empty((TILE_PX * TILE_PX, 4), np.uint8)
        picture[_RASTER_P] = np.round(drawn_p4 * [1, 1, 1, 255]).astype(np.uint8)
        return picture.reshape(TILE_PX, TILE_PX, 4)


def quad_tree(plane_n2: np.ndarray) -> QuadTree:
    """Sort the synapses of a map.

    Args:
        plane_n2: float32 (n, 2), NaN for synapses that have no place.
    """
    row_m = np.flatnonzero(np.isfinite(plane_n2).all(axis=1)).astype(np.uint32)
    low, side = square_of(plane_n2)
    cell_m = []
    for axis in range(2):
        share_m = (plane_n2[row_m, axis].astype(np.float64) - low[axis]) / side
        cell_m.append(np.clip(share_m * 2**_BITS, 0, 2**_BITS - 1).astype(np.uint32))
    key_m = _interleaved(*cell_m)
    order_m = np.argsort(key_m, kind="stable")
    key_m = key_m[order_m]
    dense_l = tuple(_dense_count(key_m, level) for level in range(DEEPEST + 1))
    return QuadTree(plane_n2, key_m, row_m[order_m], low, side, dense_l)


def _dense_count(key_m: np.ndarray, level: int) -> float:
    pixel_m = key_m >> np.uint32(2 * (DEEPEST - level))
    edges = np.flatnonzero(pixel_m[1:] != pixel_m[:-1]) + 1
    counts = np.diff(np.concatenate([[0], edges, [len(pixel_m)]]))
    return float(np.quantile(counts, _DENSE)) if len(pixel_m) else 1.0


def square_of(plane_nd: np.ndarray) -> tuple[tuple[float, float], float]:
    """Lower ends and length of the square around a map in a plane, a little larger than the map."""
    ends = []
    for axis in range(2):
        value_n = plane_nd[:, axis]
        known_n = value_n if np.isfinite(value_n).all() else value_n[np.isfinite(value_n)]
        ends.append((float(known_n.min()), float(known_n.max())) if len(known_n) else (0.0, 1.0))
    side = max(high - low for low, high in ends) * 1.0001 or 1.0
    return (ends[0][0], ends[1][0]), side


def png(picture: np.ndarray) -> bytes:
    """Encode a picture uint8 (height, width, 4)."""
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(picture, "RGBA").save(file, "PNG", compress_level=1)
    return file.getvalue()


def _drawn(
    key_t: np.ndarray,
    value_t: np.ndarray | None,
    flag_t: np.ndarray,
    wanted: int,
    shift: int,
    dense: float,
    colours: TileColours,
) -> np.ndarray:
    """Colours 0 to 255 and opacity 0 to 1 of the pixels, float64 (65536, 4), in the order of the tree."""
    drawn_p4 = np.zeros((TILE_PX * TILE_PX, 4))
    if value_t is not None and colours.classes_c3 is not None:
        colour_c3 = np.concatenate([colours.classes_c3, colours.unknown_3[None]]).astype(np.float64)
        count_pc = np.zeros((len(drawn_p4), len(colour_c3)), np.uint32)
        _count_classes(key_t, value_t, flag_t, wanted, shift, count_pc)
        count_p = count_pc.sum(axis=1)
        is_any_p = count_p > 0
        # Of a thousand annotated synapses among a million, nothing could be seen in the mixture with the others.
        is_known_p = count_pc[:, :-1].any(axis=1)
        count_pc[is_known_p, -1] = 0
        drawn_p4[is_any_p, :3] = count_pc[is_any_p] @ colour_c3 / count_pc[is_any_p].sum(axis=1)[:, None]
    else:
        sum_p, known_p, count_p = np.zeros(len(drawn_p4)), np.zeros(len(drawn_p4)), np.zeros(len(drawn_p4))
        value_t = np.empty(0, np.float32) if value_t is None else value_t
        _sum_values(key_t, value_t, flag_t, wanted, shift, sum_p, known_p, count_p)
        is_any_p, is_known_p = count_p > 0, known_p > 0
        drawn_p4[is_any_p, :3] = colours.unknown_3
        if colours.ramp_s3 is not None and is_known_p.any():
            last = len(colours.ramp_s3) - 1
            share_p = (sum_p[is_known_p] / known_p[is_known_p] - colours.low) / (colours.high - colours.low)
            drawn_p4[is_known_p, :3] = colours.ramp_s3[np.clip(np.round(share_p * last), 0, last).astype(int)]
    density_p = np.log(count_p[is_any_p]) / np.log(max(dense, 2.0))
    drawn_p4[is_any_p, 3] = _FAINTEST + (1 - _FAINTEST) * np.minimum(density_p, 1)
    return drawn_p4


def _over(upper_p4: np.ndarray, lower_p4: np.ndarray) -> np.ndarray:
    """Lay a picture over another."""
    upper_p, lower_p = upper_p4[:, 3:], lower_p4[:, 3:] * (1 - upper_p4[:, 3:])
    opacity_p = upper_p + lower_p
    laid_p3 = (upper_p4[:, :3] * upper_p + lower_p4[:, :3] * lower_p) / np.where(opacity_p > 0, opacity_p, 1)
    return np.concatenate([laid_p3, opacity_p], axis=1)


def _interleaved(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Bits of two numbers below 65536 in turn, uint32; those of ``y`` are the higher ones."""
    return _spread(x) | (_spread(y) << np.uint32(1))


def _spread(number: np.ndarray) -> np.ndarray:
    """Put a zero before each of the lower 16 bits."""
    spread = number.astype(np.uint32)
    for shift, mask in ((8, 0x00FF00FF), (4, 0x0F0F0F0F), (2, 0x33333333), (1, 0x55555555)):
        spread = (spread | (spread << np.uint32(shift))) & np.uint32(mask)
    return spread


def _raster_places() -> np.ndarray:
    """Place in a picture of each pixel of a tile in the order of the tree."""
    y, x = np.divmod(np.arange(TILE_PX * TILE_PX, dtype=np.uint32), np.uint32(TILE_PX))
    place_p = np.empty(TILE_PX * TILE_PX, np.int64)
    place_p[_interleaved(x, y)] = np.arange(TILE_PX * TILE_PX)
    return place_p


_RASTER_P = _raster_places()


@njit(nogil=True, cache=True)
def _sum_values(
    key_t: Any, value_t: Any, flag_t: Any, wanted: int, shift: int, sum_p: Any, known_p: Any, count_p: Any
) -> None:
    has_values = value_t.shape[0] > 0
    for at in range(key_t.shape[0]):
        if (flag_t[at] & wanted) != wanted:
            continue
        pixel = (key_t[at] >> shift) & 0xFFFF
        count_p[pixel] += 1
        if has_values and value_t[at] == value_t[at]:  # a missing value equals nothing
            sum_p[pixel] += value_t[at]
            known_p[pixel] += 1


@njit(nogil=True, cache=True)
def _count_classes(key_t: Any, code_t: Any, flag_t: Any, wanted: int, shift: int, count_pc: Any) -> None:
    last = count_pc.shape[1] - 1
    for at in range(key_t.shape[0]):
        if (flag_t[at] & wanted) == wanted:
            count_pc[(key_t[at] >> shift) & 0xFFFF, min(code_t[at], last)] += 1


@njit(nogil=True, cache=True)
def _flagged(flag_m: Any, starts: Any, stops: Any, place_p: Any) -> int:
    """Write the places of shown synapses in ranges; their number, or -1 if there is no room."""
    n = 0
    for number in range(starts.shape[0]):
        for at in range(starts[number], stops[number]):
            if flag_m[at] & 1:
                if n == place_p.shape[0]:
                    return -1
                place_p[n] = at
                n += 1
    return n


@njit(nogil=True, cache=True)
def _taken(row_m: Any, starts: Any, stops: Any, n: int) -> Any:
    row_p = np.empty(n, np.uint32)
    at = 0
    for number in range(starts.shape[0]):
        for place in range(starts[number], stops[number]):
            row_p[at] = row_m[place]
            at += 1
    return row_p


@njit(nogil=True, cache=True)
def _inside(x_p: Any, y_p: Any, corner_x: Any, corner_y: Any) -> Any:
    """Even-odd rule, as the page has it for smaller runs."""
    is_inside_p = np.zeros(x_p.shape[0], np.bool_)
    n = corner_x.shape[0]
    for point in range(x_p.shape[0]):
        x, y = x_p[point], y_p[point]
        inside = False
        before = n - 1
        for at in range(n):
            if (corner_y[at] > y) != (corner_y[before] > y):
                slope = (corner_x[before] - corner_x[at]) * (y - corner_y[at])
                if x < slope / (corner_y[before] - corner_y[at]) + corner_x[at]:
                    inside = not inside
            before = at
        is_inside_p[point] = inside
    return is_inside_p
