"""Labels that people give to synapses in the explorer: one table per saving, never overwritten."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import re
import secrets
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import fsspec
import pandas as pd

from synapseclr import __version__
from synapseclr.errors import TableError

DEFECTIVE = "defective"
MAX_LENGTH = 64
_FORMULA_STARTS = "=+-@"
_TRIES = 5


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
        """Write a new table and, beside it, where it comes from.

        Args:
            synapse_ids: What is labelled, at least one.
            label: ``defective`` or any short text.
            provenance: How the set was chosen and from which run. Nothing about who did so is added.

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
        name = self._write_new(f"{now:%Y%m%dT%H%M%SZ}_{_slug(label)}", table)
        filesystem, folder = self._opened()
        filesystem.pipe_file(f"{folder}/{name}.json", json.dumps(record, indent=2, ensure_ascii=False).encode())
        return f"{name}.csv"

    def read(self) -> pd.DataFrame:
        """All labels that were ever saved.

        Returns:
            ``synapse_id``, ``label``, ``table``, in the order of saving; without rows where nothing was saved.
        """
        filesystem, folder = self._opened()
        parts = []
        for path in sorted(filesystem.glob(f"{folder}/*.csv")):
            with filesystem.open(path) as stream:
                part = pd.read_csv(stream, dtype={"synapse_id": "int64", "label": "str"}, keep_default_na=False)
            parts.append(part.assign(table=path.rpartition("/")[2]))
        if not parts:
            return pd.DataFrame({"synapse_id": pd.Series(dtype="int64"), "label": "", "table": ""})
        return pd.concat(parts, ignore_index=True)

    def _opened(self) -> tuple[Any, str]:
        filesystem, folder = fsspec.core.url_to_fs(self.url, **(self.storage_options or {}))
        filesystem.makedirs(folder, exist_ok=True)
        return filesystem, folder

    def _write_new(self, stem: str, content: bytes) -> str:
        """Write under a name that nobody has; several people may save within one second.

        Object stores do not all refuse to overwrite: there, what tells names apart is drawn at random.
        """
        filesystem, folder = self._opened()
        for _ in range(_TRIES):
            name = f"{stem}_{secrets.token_hex(4)}"
            path = f"{folder}/{name}.csv"
            if filesystem.exists(path):
                continue
            filesystem.pipe_file(path, content, mode="create")
            return name
        raise TableError(f"{folder} has tables named {stem} already. Save again in a second.")


def checked_label(label: str) -> str:
    """Return a label as it is stored.

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
