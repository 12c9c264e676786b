"""Whole tables from a CAVE server, which returns 200,000 rows at most: in tiles of space, or by lists of ids.

Every part is a Parquet file that is there whole or not at all, so an interrupted download continues where it was. A box
with more rows than the server returns is halved along its longest side, again and again. Halves share their border,
because a position need not be a whole number; rows that lie on it come twice and are kept once.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from synapseclr.errors import TableError
from synapseclr.storage.atomic_files import check_file, remove_leftovers, write_whole, written_whole
from synapseclr.volumes.cave_service import Box, CaveService
from synapseclr.volumes.table_schema import some

if TYPE_CHECKING:
    from numpy.typing import NDArray

ROW_LIMIT = 200_000
_IDS_A_QUERY = 10_000
_POINTS = ("ctr_pt_position", "pre_pt_position", "pt_position", "post_pt_position")
_HALVED = ".halved"

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class TableQuery:
    """Rows of a table of one version.

    Attributes:
        table: Its name.
        version: Materialization version.
        box_nm: Box that the rows' points lie in; None: all rows.
        filters: By kind and column, see :data:`synapseclr.volumes.cave_service.FILTERS`.
        columns: Those that are wanted; None: all.
        point: Column of positions that the box applies to; None: the first of the usual ones that the table has.
        unit_nm: Size in nm of one unit of the positions; None: as the table's metadata tell.
    """

    table: str
    version: int
    box_nm: Box | None = None
    filters: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    columns: tuple[str, ...] | None = None
    point: str | None = None
    unit_nm: tuple[float, float, float] | None = None


def need_columns(rows: pd.DataFrame, columns: Sequence[str], table: str) -> None:
    """Raise a :class:`TableError` that names the columns that a table from CAVE lacks."""
    missing = [name for name in columns if name not in rows]
    if missing:
        raise TableError(
            f"The table {table} has no column {', '.join(missing)}; it has {', '.join(map(str, rows.columns))}. "
            "Correct the name in the catalog entry, or add the column to its `columns`."
        )


def digest_of(description: Any) -> str:
    """Twelve hexadecimal digits that tell one query from another."""
    text = json.dumps(description, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def fetch_table(service: CaveService, query: TableQuery, folder: Path, row_limit: int = ROW_LIMIT) -> pd.DataFrame:
    """Fetch all rows of a query.

    Args:
        service: Of the datastack.
        query: Its rows.
        folder: Keeps what has been fetched; of this query alone.
        row_limit: Rows that are asked for at once.

    Returns:
        The rows, ordered by ``id``, each id once; positions in three columns each, in the table's units.

    Raises:
        TableError: If the query finds nothing, or more rows than the server returns lie at one point.
        UnreachableError: If the server does not answer; running it again continues.
    """
    folder.mkdir(parents=True, exist_ok=True)
    remove_leftovers(folder)
    parts = list(_tiles(service, query, folder, row_limit))
    filled = [part for part in parts if len(part)]
    if not filled:
        raise TableError(
            f"Version {query.version} of the table {query.table} of the datastack {service.datastack} has no rows in "
            "the box and with the filters of the catalog entry. bounding_box_nm is in nm, lower corner first."
        )
    whole = pd.concat(filled, ignore_index=True)
    whole = whole.drop_duplicates("id").sort_values("id", ignore_index=True)
    if query.box_nm is None and not query.filters:
        n_rows = service.n_rows(query.table, query.version)
        if n_rows != len(whole):
            logger.warning(
                "The table %s of version %d has %d rows, %d were fetched: the others are not valid, or their positions "
                "lie outside of the segmentation.",
                query.table,
                query.version,
                n_rows,
                len(whole),
            )
    return whole


def fetch_by_ids(
    service: CaveService, query: TableQuery, column: str, ids: NDArray[np.int64], folder: Path, row_limit: int
) -> pd.DataFrame:
    """Fetch the rows whose value of a column is one of many ids; a table that is small enough is fetched whole.

    Args:
        service: Of the datastack.
        query: Its rows; a box does not count.
        column: Column of ids.
        ids: Ids (n,).
        folder: Keeps what has been fetched; of this query and these ids alone.
        row_limit: Rows that are asked for at once.

    Returns:
        The rows, in the order of their values of the column and of ``id``.
    """
    folder.mkdir(parents=True, exist_ok=True)
    wanted = np.unique(ids)

    def ask(chosen: NDArray[np.int64] | None) -> tuple[pd.DataFrame, bool]:
        filters = {kind: dict(columns) for kind, columns in query.filters.items()}
        if chosen is not None:
            filters.setdefault("in", {})[column] = chosen.tolist()
        return service.rows(
            query.table,
            query.version,
            row_limit,
            filters=filters,
            columns=None if query.columns is None else list(query.columns),
        )

    def parts(chosen: NDArray[np.int64]) -> Iterator[pd.DataFrame]:
        path = folder / f"ids_{chosen[0]}-{chosen[-1]}_{len(chosen)}.parquet"
        found = _kept(path, lambda: ask(chosen))
        if found is not None:
            yield found
        elif len(chosen) == 1:
            raise TableError(f"The table {query.table} has {row_limit:,} rows or more with {column} {chosen[0]}.")
        else:
            yield from parts(chosen[: len(chosen) // 2])
            yield from parts(chosen[len(chosen) // 2 :])

    if service.n_rows(query.table, query.version) < row_limit:
        found = _kept(folder / "whole.parquet", lambda: ask(None))
        if found is not None:
            found = found[found[column].isin(wanted)]
            return found.sort_values([column, "id"], ignore_index=True)
    batches = [wanted[start : start + _IDS_A_QUERY] for start in range(0, len(wanted), _IDS_A_QUERY)]
    listed = [part for batch in batches for part in parts(batch)]
    filled = [part for part in listed if len(part)] or listed[:1]
    whole = pd.concat(filled, ignore_index=True) if filled else pd.DataFrame({column: [], "id": []})
    return whole.sort_values([column, "id"], ignore_index=True)


def kept_table(path: Path, make: Callable[[], pd.DataFrame]) -> pd.DataFrame:
    """Read a Parquet file, which is made first if it is not there.

    Raises:
        OutputError: If the file has changed since it was written.
    """
    if not path.is_file():
        table = make()
        with written_whole(path) as partial:
            table.to_parquet(partial, index=False)
    check_file(path)
    return pd.read_parquet(path)


def _kept(path: Path, ask: Callable[[], tuple[pd.DataFrame, bool]]) -> pd.DataFrame | None:
    """Rows of one query, from its file if it was answered before; None if there are more than the server returns."""
    marker = path.with_suffix(_HALVED)
    if marker.is_file():
        return None
    if not path.is_file():
        found, is_limited = ask()
        if is_limited:
            write_whole(marker, b"", is_recorded=False)
            return None
        _check_ids(found)
        return kept_table(path, lambda: found)
    return kept_table(path, lambda: pd.DataFrame())


def _check_ids(rows: pd.DataFrame) -> None:
    """Refuse ids that came as floats, because a cell was empty, and that are too large to be exact."""
    for name in rows.columns:
        if str(name).endswith("id") and pd.api.types.is_float_dtype(rows[name]):
            rounded = rows[name][rows[name] > 2**53]
            if len(rounded):
                raise TableError(
                    f"The column {name} has empty cells, for which its ids came as rounded numbers ({some(rounded)}). "
                    f"Leave the empty rows out: `filters: {{greater: {{{name}: 0}}}}` in the catalog entry."
                )


def _tiles(service: CaveService, query: TableQuery, folder: Path, row_limit: int) -> Iterator[pd.DataFrame]:
    """Parts of a table that together are all of it, with a progress bar over the share of space."""
    from rich.progress import Progress

    def ask(point: str | None, box: Box | None) -> tuple[pd.DataFrame, bool]:
        return service.rows(
            query.table,
            query.version,
            row_limit,
            filters=query.filters,
            box=None if box is None or point is None else {point: box},
            columns=None if query.columns is None else list(query.columns),
        )

    if query.box_nm is None:
        whole = _kept(folder / "whole.parquet", lambda: ask(None, None))
        if whole is not None:
            yield whole
            return
    unit_nm = np.asarray(query.unit_nm or service.resolution_nm(query.table, query.version))
    lower, upper = np.asarray(query.box_nm or service.extent_nm(), np.float64) / unit_nm
    point = query.point or _point_of(service, query)
    waiting = [(np.floor(lower), np.ceil(upper), 1.0)]
    with Progress() as progress:
        task = progress.add_task(f"Fetching {query.table}", total=1.0)
        while waiting:
            low, high, share = waiting.pop()
            box: Box = (tuple(low.astype(int).tolist()), tuple(high.astype(int).tolist()))
            name = "_".join(f"{a:.0f}-{b:.0f}" for a, b in zip(low, high, strict=True))
            found = _kept(folder / f"tile_{name}.parquet", lambda box=box: ask(point, box))  # type: ignore[misc]
            if found is not None:
                progress.advance(task, share)
                yield found
            else:
                waiting += [(*half, share / 2) for half in _halves(low, high, unit_nm, query, row_limit)]


def _halves(
    low: NDArray[np.float64], high: NDArray[np.float64], unit_nm: NDArray[np.float64], query: TableQuery, row_limit: int
) -> list[tuple[NDArray[np.float64], NDArray[np.float64]]]:
    """Both halves of a box, the upper one first."""
    axis = int(np.argmax((high - low) * unit_nm * (high - low > 1)))
    if high[axis] - low[axis] <= 1:
        raise TableError(
            f"The table {query.table} has {row_limit:,} rows or more at the point {low.tolist()}, more than the server "
            "returns at once. Narrow the query with filters."
        )
    middle_high, middle_low = high.copy(), low.copy()
    middle_high[axis] = middle_low[axis] = np.floor((low[axis] + high[axis]) / 2)
    return [(middle_low, high), (low, middle_high)]


def _point_of(service: CaveService, query: TableQuery) -> str:
    """Column of positions that boxes apply to, by the columns of a row."""
    row, _ = service.rows(query.table, query.version, 1)
    for name in _POINTS:
        if f"{name}_x" in row:
            return name
    raise TableError(
        f"The table {query.table} has none of the columns {', '.join(_POINTS)} to tile it by; it has "
        f"{', '.join(map(str, row.columns))}. Name the one of its positions as `point` in the catalog entry."
    )
