"""Synapses of a CAVE datastack at a pinned version, with labels of other tables and root ids of a chosen moment."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import pandas as pd

from synapseclr.errors import ConfigurationError, TableError
from synapseclr.storage.atomic_files import check_file, write_whole, written_whole
from synapseclr.volumes.cave_pages import (
    ROW_LIMIT,
    TableQuery,
    digest_of,
    fetch_by_ids,
    fetch_table,
    kept_table,
    need_columns,
)
from synapseclr.volumes.cave_service import CaveService

JoinedBy = Literal["synapse", "pre_root", "post_root", "pre_nucleus", "post_nucleus"]
_SUPERVOXELS_A_QUERY = 100_000

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class AnnotationJoin:
    """Labels of another table of the same version, joined to the synapses.

    Attributes:
        table: Its name.
        by: ``synapse``: it labels synapses by their id; ``pre_root``, ``post_root``: neurites by their root id;
            ``pre_nucleus``, ``post_nucleus``: nuclei by their id, found by the root ids at them.
        columns: Names of its columns, and the names that they get.
        key: Column of the ids; None: ``target_id`` of a table that refers to another one, else ``id`` of synapses and
            nuclei and ``pt_root_id`` of neurites.
        nucleus_table: Table that says which nucleus has which root id; None: that of the datastack.
    """

    table: str
    by: JoinedBy
    columns: dict[str, str]
    key: str | None = None
    nucleus_table: str | None = None

    def __post_init__(self) -> None:
        """Check the names.

        Raises:
            ConfigurationError: If ``by`` is none of the known ones or no column is named.
        """
        if self.by not in get_args(JoinedBy):
            raise ConfigurationError(
                f"The annotations of {self.table} are joined by '{self.by}'. Choose one of: "
                f"{', '.join(get_args(JoinedBy))}."
            )
        if not self.columns:
            raise ConfigurationError(
                f"The annotations of {self.table} name no columns. Give their names there and here, as `columns: "
                "{cell_type: post_cell_type}`."
            )


@dataclass(frozen=True)
class CaveTable:
    """Declaration of a synapse table.

    Attributes:
        service: Of the datastack.
        query: Its rows.
        joins: Labels of other tables.
        roots_at: Moment of the root ids; None: that of the version.
        row_limit: Rows that the server returns at once.
    """

    service: CaveService
    query: TableQuery
    joins: tuple[AnnotationJoin, ...] = ()
    roots_at: datetime | None = None
    row_limit: int = field(default=ROW_LIMIT, compare=False)

    def folder_in(self, folder: Path) -> Path:
        """Folder of what is fetched for its query: another one for every query."""
        query = {**asdict(self.query), "datastack": self.service.datastack}
        return folder / f"{self.service.datastack}.{self.query.table}.v{self.query.version}.{digest_of(query)}"

    def load(self, folder: Path) -> tuple[pd.DataFrame, dict[str, Any]]:
        """Read the table, which is fetched first, as far as that is not done yet.

        Args:
            folder: Keeps the tables of any queries.

        Returns:
            The rows under CAVE's own names, ordered by ``id``; and where they come from. Once they are whole, no
            server is asked.

        Raises:
            TableError: If version, table or column do not exist, or nothing is found.
            UnreachableError: If the server does not answer, or does not accept the token.
            OutputError: If what was fetched has changed since.
        """
        place = self.folder_in(folder)
        options = {"joins": [asdict(join) for join in self.joins], "roots_at": self.roots_at}
        path = place / f"table.{digest_of(options)}.parquet"
        if not path.is_file():
            self._fetch(place, path)
        check_file(path)
        return pd.read_parquet(path), json.loads(path.with_suffix(".json").read_bytes())

    def _fetch(self, place: Path, path: Path) -> None:
        query, moment = self.query, self.service.moment_of(self.query.version)
        unit_nm = query.unit_nm or self.service.resolution_nm(query.table, query.version)
        source = {
            "datastack": self.service.datastack,
            "server": self.service.server,
            "table": query.table,
            "materialization_version": query.version,
            "version_timestamp": moment.isoformat(),
            "root_ids_at": (self.roots_at or moment).isoformat(),
            "is_remapped": self.roots_at is not None and self.roots_at != moment,
            "unit_nm": unit_nm,
            "bounding_box_nm": query.box_nm,
            "filters": query.filters,
            "annotations": [join.table for join in self.joins],
        }
        table = fetch_table(self.service, query, place, self.row_limit)
        for join in self.joins:
            table = self._joined(table, join, place)
        if self.roots_at is not None and source["is_remapped"]:
            looked_up = place / f"roots.{digest_of(self.roots_at)}"
            table, unmapped, n_changed = remap_roots(table, self._roots_at(self.roots_at), looked_up)
            report = path.with_name(path.name.replace("table.", "unmapped_synapses.")).with_suffix(".csv")
            with written_whole(report) as partial:
                unmapped.to_csv(partial, index=False)
            source |= {"n_changed_root_ids": n_changed, "n_unmapped_root_ids": len(unmapped)}
            logger.info("%d root ids are others at %s than in version %d.", n_changed, self.roots_at, query.version)
            if len(unmapped):
                logger.warning(
                    "%d root ids of %d synapses could not be looked up at %s; these synapses are left out and listed "
                    "in %s.",
                    len(unmapped),
                    unmapped["id"].nunique(),
                    self.roots_at,
                    report,
                )
        source["n_rows"] = len(table)
        write_whole(path.with_suffix(".json"), json.dumps(source, indent=1, default=str).encode(), is_recorded=False)
        with written_whole(path) as partial:
            table.to_parquet(partial, index=False)

    def _roots_at(self, moment: datetime) -> Callable[[np.ndarray], np.ndarray]:
        return lambda supervoxels: self.service.roots(supervoxels, moment)

    def _joined(self, table: pd.DataFrame, join: AnnotationJoin, place: Path) -> pd.DataFrame:
        """The table with the columns of an annotation table; an empty cell where there is no label, or no clear one."""
        taken = [name for name in join.columns.values() if name in table]
        if taken:
            raise ConfigurationError(
                f"The annotations of {join.table} get the name {', '.join(taken)}, which the synapse table has. Choose "
                "another one."
            )
        side = join.by.partition("_")[0]
        ids = table["id"] if join.by == "synapse" else table[f"{side}_pt_root_id"]
        named = self._labels(join, ids[ids != 0].to_numpy(np.int64), place)
        labels, n_unclear = one_label_each(named, list(join.columns.values()))
        joined = table.assign(**{name: labels[name].reindex(ids.to_numpy()).array for name in labels.columns})
        for name in labels.columns:
            logger.info("%s is known of %d of %d synapses.", name, int(joined[name].notna().sum()), len(joined))
        if n_unclear:
            logger.warning(
                "%d ids have several labels in %s that are not the same; their cells are left empty.",
                n_unclear,
                join.table,
            )
        return joined

    def _labels(self, join: AnnotationJoin, ids: np.ndarray, place: Path) -> pd.DataFrame:
        """Labels under their new names, with ``key``: the ids that the synapses have, several rows each perhaps."""
        version = self.query.version
        refers_to = self.service.metadata(join.table, version).get("reference_table") or None
        kind = join.by.rpartition("_")[2]
        key = join.key or ("target_id" if refers_to else "pt_root_id" if kind == "root" else "id")
        if kind == "synapse" and refers_to not in (None, self.query.table):
            raise ConfigurationError(
                f"The table {join.table} labels rows of {refers_to}, not of {self.query.table}; it cannot be joined by "
                "synapse."
            )
        middle = None
        if kind == "nucleus":
            middle = join.nucleus_table or refers_to or self.service.nucleus_table
            if middle is None:
                raise ConfigurationError(
                    f"The datastack {self.service.datastack} names no table of nuclei. Set nucleus_table in the "
                    f"annotations of {join.table}."
                )
        elif kind == "root" and join.key is None:
            middle = refers_to  # which has the root ids
        if middle is None:
            rows = self._rows_by(join.table, key, ids, place)
            need_columns(rows, [key, *join.columns], join.table)
            return rows[[key, *join.columns]].rename(columns={key: "key", **join.columns})
        between = self._rows_by(middle, "pt_root_id", ids, place)
        need_columns(between, ["id", "pt_root_id"], middle)
        rows = self._rows_by(join.table, key, between["id"].to_numpy(np.int64), place)
        need_columns(rows, [key, *join.columns], join.table)
        root_of = between[["id", "pt_root_id"]].rename(columns={"id": "_middle", "pt_root_id": "key"})
        labels = rows[[key, *join.columns]].rename(columns={key: "_middle", **join.columns})
        return root_of.merge(labels, on="_middle").drop(columns="_middle")

    def _rows_by(self, name: str, column: str, ids: np.ndarray, place: Path) -> pd.DataFrame:
        """Rows of another table of the same version, by ids."""
        asked = digest_of([name, column, hashed(ids)])
        query = TableQuery(name, self.query.version)
        folder = place / f"{name}.{asked}"
        return fetch_by_ids(self.service, query, column, ids, folder, self.row_limit)


def hashed(ids: np.ndarray) -> str:
    """Digest of a set of ids."""
    return digest_of(np.unique(ids).tolist())


def one_label_each(rows: pd.DataFrame, columns: list[str]) -> tuple[pd.DataFrame, int]:
    """Labels by key, where all rows of a key agree.

    Args:
        rows: ``key`` and the columns, several rows a key perhaps.
        columns: Names of the labels.

    Returns:
        A row a key that has clear labels, whole numbers as nullable integers, so that an empty cell does not turn
        ids into floats; and the number of keys whose rows do not agree.
    """
    distinct = rows[["key", *columns]].drop_duplicates()
    is_unclear = distinct["key"].duplicated(keep=False)
    labels = distinct[~is_unclear].set_index("key")
    whole = [name for name in columns if pd.api.types.is_integer_dtype(labels[name])]
    flags = [name for name in columns if pd.api.types.is_bool_dtype(labels[name])]
    labels = labels.astype(dict.fromkeys(whole, "Int64") | dict.fromkeys(flags, "boolean"))
    return labels, int(distinct["key"][is_unclear].nunique())


def remap_roots(
    table: pd.DataFrame, roots_of: Callable[[np.ndarray], np.ndarray], folder: Path
) -> tuple[pd.DataFrame, pd.DataFrame, int]:
    """Look up the root ids of another moment through the supervoxels at the synapses' points.

    Args:
        table: With ``pre_pt_supervoxel_id``, ``pre_pt_root_id`` and those of the postsynaptic side.
        roots_of: Root ids (n,) of supervoxels (n,), uint64; 0 where there is none.
        folder: Keeps what was looked up, batch by batch; of this table and moment.

    Returns:
        The table with the other root ids, without the synapses of which one could not be looked up; those, as ``id,
        side, supervoxel_id, root_id``; and the number of root ids that are others now. A root id 0, no neurite, stays.

    Raises:
        TableError: If the table has no supervoxels.
    """
    sides = ("pre", "post")
    need_columns(table, [f"{side}_pt_supervoxel_id" for side in sides], "whose root ids are to be looked up")
    supervoxels = {side: table[f"{side}_pt_supervoxel_id"].to_numpy(np.uint64) for side in sides}
    unique = np.unique(np.concatenate(list(supervoxels.values())))
    unique = unique[unique != 0]
    roots = np.zeros(len(unique), np.uint64)
    for start in range(0, len(unique), _SUPERVOXELS_A_QUERY):
        batch = unique[start : start + _SUPERVOXELS_A_QUERY]

        def look_up(batch: np.ndarray = batch) -> pd.DataFrame:
            found = roots_of(batch)
            if len(found) != len(batch):
                raise TableError(f"The graph gave {len(found)} root ids for {len(batch)} supervoxels.")
            return pd.DataFrame({"supervoxel_id": batch, "root_id": found})

        found = kept_table(folder / f"roots_{start:09d}.parquet", look_up)
        roots[start : start + len(batch)] = found["root_id"].to_numpy(np.uint64)
    is_kept, unmapped, n_changed, changed = np.ones(len(table), bool), [], 0, {}
    for side, supervoxel_n in supervoxels.items():
        before = table[f"{side}_pt_root_id"].to_numpy(np.uint64)
        at = np.clip(np.searchsorted(unique, supervoxel_n), 0, max(len(unique) - 1, 0))
        after = np.where(supervoxel_n == 0, 0, roots[at] if len(unique) else 0).astype(np.uint64)
        is_lost = (after == 0) & ((before != 0) | (supervoxel_n != 0))
        is_kept &= ~is_lost
        n_changed += int(((before != after) & ~is_lost).sum())
        columns = {"id": table["id"], "side": side, "supervoxel_id": supervoxel_n, "root_id": before}
        unmapped.append(pd.DataFrame(columns)[is_lost])
        changed[f"{side}_pt_root_id"] = after
    kept = table.assign(**changed)[is_kept].reset_index(drop=True)
    if kept.empty:
        raise TableError("None of the synapses has a supervoxel that the graph knows at this moment.")
    return kept, pd.concat(unmapped, ignore_index=True), n_changed
