"""Labels that people give to synapses in the explorer, one table per saving, never overwritten; accepted defects."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import logging
import re
import secrets
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, NamedTuple, Protocol

import pandas as pd

from synapseclr import __version__
from synapseclr.errors import TableError
from synapseclr.storage.addresses import open_filesystem
from synapseclr.volumes.synapse_table import SynapseRows

MAX_LENGTH = 64
_FORMULA_STARTS = "=+-@"
_TABLE_NAME = re.compile(r"[0-9A-Za-z][0-9A-Za-z_.-]{0,120}\.csv")
_WITHDRAWN = ".withdrawn"
_TRIES = 5


logger = logging.getLogger(__name__)


class SavedLabels(NamedTuple):
    """Labels as they were saved, without those that were withdrawn.

    Attributes:
        labels: ``synapse_id``, ``label``, ``table``, in the order of saving.
        damaged: The problem with each table that cannot be read, by its name.
    """

    labels: pd.DataFrame
    damaged: dict[str, str]


@dataclass(frozen=True)
class LabelTables:
    """A folder of tables.

    Attributes:
        url: Local path or fsspec URL.
        storage_options: Passed to fsspec.
    """

    url: str
    storage_options: Mapping[str, Any] | None = None

    def save(self, synapse_ids: Sequence[int], label: str, provenance: Mapping[str, Any]) -> str:
        """Write a new table and, beside it, a record of its provenance.

        Args:
            synapse_ids: Synapses to label, at least one.
            label: ``defective`` or any short text.
            provenance: How the set was chosen, and from which run. Nothing about the user is added.

        Returns:
            The table's name.

        Raises:
            TableError: If there is nothing to label or the label cannot be used.
        """
        label = checked_label(label)
        if not len(synapse_ids):
            raise TableError(f"No synapse is selected: nothing to label as '{label}'.")
        now = datetime.now(UTC)
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(["synapse_id", "label"])
        writer.writerows((int(identifier), label) for identifier in synapse_ids)
        table = text.getvalue().encode()
        record = {
            "label": label,
            "n_synapses": len(synapse_ids),
            "saved_at": now.isoformat(timespec="seconds"),
            "synapseclr": __version__,
            "sha256": hashlib.sha256(table).hexdigest(),
            **provenance,
        }
        beside = json.dumps(record, indent=2, ensure_ascii=False).encode(errors="replace")
        return f"{self._write_new(f'{now:%Y%m%dT%H%M%S.%f}Z_{_slug(label)}', table, beside)}.csv"

    def read(self) -> SavedLabels:
        """Read all tables; those that cannot be read are left out and named."""
        filesystem, folder = self._opened()
        parts, damaged = [], {}
        withdrawn = {path.removesuffix(_WITHDRAWN) for path in filesystem.glob(f"{folder}/*.csv{_WITHDRAWN}")}
        for path in sorted(set(filesystem.glob(f"{folder}/*.csv")) - withdrawn):
            name = path.rpartition("/")[2]
            try:
                parts.append(_read_table(filesystem, path).assign(table=name))
            except (OSError, ValueError, KeyError) as error:
                damaged[name] = (str(error).strip().splitlines() or [type(error).__name__])[0]
                logger.warning("The labels of %s are left out, as it cannot be read: %s", path, damaged[name])
        if not parts:
            none = pd.DataFrame({"synapse_id": pd.Series(dtype="int64"), "label": "", "table": ""})
            return SavedLabels(none, damaged)
        return SavedLabels(pd.concat(parts, ignore_index=True), damaged)

    def withdraw(self, table: str) -> None:
        """Take a saving back: its labels are left out from now on. The table stays; a file beside it marks it.

        Args:
            table: The table's name.

        Raises:
            TableError: If there is no such table.
        """
        filesystem, folder = self._opened()
        path = f"{folder}/{table}"
        if not isinstance(table, str) or not _TABLE_NAME.fullmatch(table) or not filesystem.exists(path):
            raise TableError("There is no such table of labels: it may have been moved. Load the page again.")
        if not filesystem.exists(path + _WITHDRAWN):
            filesystem.pipe_file(path + _WITHDRAWN, f"{datetime.now(UTC).isoformat(timespec='seconds')}\n".encode())

    def _opened(self) -> tuple[Any, str]:
        filesystem, folder = open_filesystem(self.url, self.storage_options)
        filesystem.makedirs(folder, exist_ok=True)
        return filesystem, folder

    def _write_new(self, stem: str, content: bytes, record: bytes) -> str:
        """Write under a new name; several people may save within one second.

        The record with the table's digest is written first, so that a truncated table is recognised. Not all object
        stores refuse to overwrite, hence the random part of the name.
        """
        filesystem, folder = self._opened()
        for _ in range(_TRIES):
            name = f"{stem}_{secrets.token_hex(4)}"
            path = f"{folder}/{name}.csv"
            if filesystem.exists(path):
                continue
            filesystem.pipe_file(f"{folder}/{name}.json", record, mode="create")
            filesystem.pipe_file(path, content, mode="create")
            return name
        raise TableError(f"{folder} has tables named {stem} already. Save again in a second.")


class TableFile(Protocol):
    """A table at a fixed place, such as a dataset of the catalog."""

    def load(self) -> pd.DataFrame:
        """Read the table; empty where there is none."""

    def save(self, data: pd.DataFrame) -> None:
        """Replace the table."""


def accept_defects(table: TableFile, synapse_ids: Sequence[int]) -> int:
    """Add synapses to the table of defects that the pipelines leave out, beside those that it lists.

    Returns:
        Number of synapses that it listed not yet.
    """
    listed = table.load()
    known = set(listed["synapse_id"].astype(int)) if "synapse_id" in listed else set()
    new = [identifier for identifier in dict.fromkeys(map(int, synapse_ids)) if identifier not in known]
    if new:
        table.save(pd.concat([listed, pd.DataFrame({"synapse_id": new}, dtype="int64")], ignore_index=True))
    return len(new)


def current_labels(labels: pd.DataFrame, row_of_id: SynapseRows) -> dict[str, Any]:
    """Reduce saved labels to the last one of each synapse.

    Args:
        labels: From :meth:`LabelTables.read`.
        row_of_id: Row of each synapse of the run; others are left out.

    Returns:
        ``classes``: the labels in use; ``rows`` and ``codes``: of each labelled synapse. ``tables``: name, label and
        number of synapses of each table, the last one first.
    """
    last = labels.drop_duplicates("synapse_id", keep="last")
    last = last.assign(row=row_of_id.rows(last["synapse_id"].to_numpy()))
    last = last[last["row"] >= 0]
    classes = list(dict.fromkeys(last["label"].tolist()))
    code_of = {name: code for code, name in enumerate(classes)}
    tables = labels.groupby(["table", "label"], sort=False).size().reset_index(name="n").to_dict("records")
    return {
        "classes": classes,
        "rows": last["row"].tolist(),
        "codes": [code_of[name] for name in last["label"]],
        "tables": tables[::-1],
    }


def _read_table(filesystem: Any, path: str) -> pd.DataFrame:
    """Read one table; raises ValueError or OSError if it is not one, or not as it was saved."""
    content = filesystem.cat_file(path)
    record = path.removesuffix(".csv") + ".json"
    if filesystem.exists(record):  # a table that was copied there by hand has none
        try:
            expected = json.loads(filesystem.cat_file(record))["sha256"]
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            raise ValueError("its record, the JSON file beside it, is damaged") from error
        if expected != hashlib.sha256(content).hexdigest():
            raise ValueError("it is cut short or has changed since it was saved")
    table = pd.read_csv(io.BytesIO(content), dtype={"synapse_id": "int64", "label": "str"}, keep_default_na=False)
    missing = [name for name in ("synapse_id", "label") if name not in table]
    if missing:
        raise ValueError(f"it lacks the column {missing[0]}")
    return table


def checked_label(label: str) -> str:
    """Clean a label for storing: no control characters, single spaces.

    Raises:
        TableError: If it is empty, too long, or would be taken for a formula by a spreadsheet.
    """
    if not isinstance(label, str):
        raise TableError("A label is a text.")
    clean = " ".join("".join(c for c in label if unicodedata.category(c)[0] != "C" or c in "\t\n").split())
    if not 1 <= len(clean) <= MAX_LENGTH:
        raise TableError(f"A label has 1 to {MAX_LENGTH} characters; this one has {len(clean)}.")
    if clean[0] in _FORMULA_STARTS:
        raise TableError(f"A label does not begin with {clean[0]}: a spreadsheet would take it for a formula.")
    return clean


def _slug(label: str) -> str:
    """Letters and digits of a label, for a file's name."""
    ascii_label = unicodedata.normalize("NFKD", label).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9]+", "-", ascii_label).strip("-")[:40] or "label"
