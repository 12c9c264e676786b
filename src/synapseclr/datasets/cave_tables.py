"""Synapse tables of a CAVE server, as a Kedro dataset."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from synapseclr.datasets.files import ReadOnlyDataset
from synapseclr.errors import ConfigurationError, TableError
from synapseclr.storage.addresses import cave_token, is_local, plain_address
from synapseclr.storage.atomic_files import write_whole
from synapseclr.volumes.cave_pages import ROW_LIMIT, TableQuery, need_columns
from synapseclr.volumes.cave_service import FILTERS, Box, CaveService
from synapseclr.volumes.cave_tables import AnnotationJoin, CaveTable
from synapseclr.volumes.root_versions import PROVENANCE, as_utc
from synapseclr.volumes.table_forms import Polyadic, VoxelSize, standard_synapse_table

logger = logging.getLogger(__name__)


class CaveTableDataset(ReadOnlyDataset[pd.DataFrame]):
    """Loads a synapse table of a CAVE datastack, at one version, as one of the standard form.

    What has been fetched is kept, so that an interrupted download continues, and a table that is whole is read without
    asking the server. The loaded table tells where it comes from in its attributes, as ``synapse_source``.

    Example catalog entry::

        synapse_table:
          type: synapseclr.datasets.CaveTableDataset
          filepath: data/01_raw/cave
          datastack: minnie65_public
          table: synapses_pni_2
          materialization_version: 943
          bounding_box_nm: [[600000, 500000, 800000], [640000, 540000, 840000]]
          annotations:
            - {table: aibs_metamodel_celltypes_v661, by: pre_root, columns: {cell_type: pre_cell_type_name}}

    Args:
        filepath: Local folder that keeps what has been fetched; each query has a folder of its own in it.
        datastack: Name of the datastack.
        table: Name of the table.
        materialization_version: Version of the rows; None: the newest one at ``timestamp``, or now, which is then kept
            in the folder and taken from there ever after.
        timestamp: Moment (UTC) whose root ids the table gets, looked up through its supervoxels; None: the version's.
        bounding_box_nm: Lower and upper corner (x, y, z) in nm of the rows' points; None: all rows.
        filters: By kind (``in``, ``out``, ``equal``, ``greater``, ``less``, ``greater_equal``, ``less_equal``,
            ``regex``) and column, as caveclient takes them.
        columns: Columns that are fetched, beside ``id``; None: all.
        point: Column of positions that the box applies to, such as ``ctr_pt_position``; None: recognised.
        annotations: Labels of other tables; see :class:`synapseclr.volumes.cave_tables.AnnotationJoin`.
        as_annotations: For the entry ``annotation_table``: return ``syn_id`` and labels alone, of synapses that have
            one. Labels are the columns of ``annotations``, and those of the table itself that are named here, with the
            names that they get, such as ``{size: cleft_size_vx}``.
        form: See :data:`synapseclr.volumes.table_forms.FORMS`; ``auto`` recognises it by its columns.
        unit_nm: Size in nm of one unit of the table's positions, where its metadata do not tell.
        polyadic: ``pairs``: a row for each pair of neurites; ``connectors``: one for each presynaptic site.
        server_address: Of the global server; None: the one that caveclient knows for the datastack.
        row_limit: Rows that the server returns at once.
        credentials: ``token``; None: that of ``cave`` in ``conf/local/credentials.yml``, or the one that caveclient has
            saved.
        metadata: Of other Kedro plugins.
    """

    refusal = "The table {table} of the datastack {datastack} is read, never written."

    def __init__(
        self,
        *,
        filepath: str,
        datastack: str,
        table: str,
        materialization_version: int | None = None,
        timestamp: str | float | None = None,
        bounding_box_nm: Sequence[Sequence[float]] | None = None,
        filters: Mapping[str, Mapping[str, Any]] | None = None,
        columns: Sequence[str] | None = None,
        point: str | None = None,
        annotations: Sequence[Mapping[str, Any]] = (),
        as_annotations: bool | Mapping[str, str] = False,
        form: str = "auto",
        unit_nm: VoxelSize | None = None,
        polyadic: Polyadic = "pairs",
        server_address: str | None = None,
        row_limit: int = ROW_LIMIT,
        credentials: Mapping[str, Any] | None = None,
        metadata: dict[str, Any] | None = None,
    ) -> None:
        if not is_local(filepath):
            raise ConfigurationError(f"{filepath} is not on this machine. Tables from CAVE are kept in a local folder.")
        self._folder = Path(plain_address(filepath))
        self._service = CaveService(datastack, server_address, cave_token(credentials))
        self._table, self._version = table, materialization_version
        self._moment = None if timestamp is None else as_utc(timestamp)
        self._box_nm = _box(bounding_box_nm)
        self._filters = _filters(filters or {})
        self._columns = None if columns is None else tuple(dict.fromkeys(("id", *columns)))
        self._point = point
        self._joins = tuple(_join(declared) for declared in annotations)
        self._as_annotations = as_annotations is not False
        self._labels = dict(as_annotations) if isinstance(as_annotations, Mapping) else {}
        self._form, self._polyadic = form, polyadic
        self._unit_nm = unit_nm if unit_nm is None else (float(unit_nm[0]), float(unit_nm[1]), float(unit_nm[2]))
        self._row_limit = row_limit
        self.metadata = metadata
        if self._as_annotations and not self._joins and not self._labels:
            raise ConfigurationError(
                f"The entry of {table} has as_annotations, but names no labels: neither annotations to join nor "
                "columns of its own, as `as_annotations: {size: cleft_size_vx}`."
            )

    def load(self) -> pd.DataFrame:
        """Fetch what is not there yet, and bring the table into the standard form.

        Raises:
            TableError: If version, table or column do not exist, or nothing is found.
            UnreachableError: If the server does not answer, or does not accept the token; running again continues.
        """
        query = TableQuery(
            self._table,
            self._pinned_version(),
            self._box_nm,
            self._filters,
            self._columns,
            self._point,
            self._unit_nm,
        )
        declared = CaveTable(self._service, query, self._joins, self._moment, self._row_limit)
        rows, source = declared.load(self._folder)
        if self._as_annotations:
            labels = self._labels | {name: name for join in self._joins for name in join.columns.values()}
            need_columns(rows, list(labels), self._table)
            table = rows[["id", *labels]].rename(columns={"id": "syn_id", **labels})
            table = table.dropna(subset=list(labels.values()), how="all").reset_index(drop=True)
        else:
            try:
                table = standard_synapse_table(rows, self._form, source["unit_nm"], self._polyadic)
            except TableError as error:
                raise TableError(f"{self._table} of the datastack {source['datastack']}: {error}") from error
        table.attrs[PROVENANCE] = source
        return table

    def _pinned_version(self) -> int:
        """The catalog's version; without one the newest, which stays the same from the first time on."""
        if self._version is not None:
            return self._version
        until = "" if self._moment is None else f".{self._moment:%Y%m%dT%H%M%S}"
        path = self._folder / f"{self._service.datastack}.newest{until}.json"
        if path.is_file():
            return int(json.loads(path.read_bytes())["materialization_version"])
        version = self._service.newest_version(self._moment)
        self._folder.mkdir(parents=True, exist_ok=True)
        write_whole(path, json.dumps({"materialization_version": version}).encode(), is_recorded=False)
        logger.warning(
            "The catalog entry of %s names no version: the newest one, %d, is taken, and from now on, as %s says. "
            "Write `materialization_version: %d` into the entry, so that the next computer reads the same rows.",
            self._table,
            version,
            path,
            version,
        )
        return version

    def _describe(self) -> dict[str, Any]:
        return {
            "filepath": str(self._folder),
            "datastack": self._service.datastack,
            "table": self._table,
            "materialization_version": self._version,
            "timestamp": None if self._moment is None else self._moment.isoformat(),
        }


def _box(given: Sequence[Sequence[float]] | None) -> Box | None:
    if given is None:
        return None
    corners = [tuple(map(float, corner)) for corner in given]
    is_box = len(corners) == 2 and all(len(corner) == 3 for corner in corners)
    if not is_box or any(low >= high for low, high in zip(*corners, strict=True)):
        raise ConfigurationError(
            f"bounding_box_nm is {given}. Give the lower and the upper corner in nm, [[x, y, z], [x, y, z]]."
        )
    (x, y, z), (to_x, to_y, to_z) = corners
    return (x, y, z), (to_x, to_y, to_z)


def _filters(given: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    unknown = sorted(set(given) - set(FILTERS))
    if unknown:
        raise ConfigurationError(f"There is no filter '{unknown[0]}' of CAVE tables. Known are {', '.join(FILTERS)}.")
    return {kind: dict(columns) for kind, columns in given.items()}


def _join(declared: Mapping[str, Any]) -> AnnotationJoin:
    try:
        return AnnotationJoin(**{**declared, "columns": dict(declared.get("columns") or {})})
    except TypeError as error:
        raise ConfigurationError(
            f"The annotations {dict(declared)} are not understood. They need table, by and columns; key and "
            "nucleus_table are optional."
        ) from error
