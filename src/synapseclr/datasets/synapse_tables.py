"""Tables of synapses made elsewhere, as a Kedro dataset."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import IO, Any

import fsspec
import pandas as pd

from synapseclr.datasets.files import ReadOnlyDataset
from synapseclr.errors import TableError
from synapseclr.volumes.table_forms import Polyadic, VoxelSize, read_cremi, standard_synapse_table

_TEXT, _HDF5 = (".csv", ".tsv", ".txt"), (".hdf", ".hdf5", ".h5")
_COMPRESSED = (".gz", ".bz2", ".xz", ".zst")
_SEPARATORS = (",", ";", "\t", "|")


class SynapseTableDataset(ReadOnlyDataset[pd.DataFrame]):
    """Loads a synapse table of any known form as one of the standard form.

    Args:
        filepath: Local path or fsspec URL: ``.csv``, ``.tsv`` or ``.txt``, compressed or not, ``.parquet``,
            ``.feather``, or a CREMI file (``.hdf``, ``.hdf5``, ``.h5``). What separates the columns of a text is read
            off its first line.
        form: See :data:`synapseclr.volumes.table_forms.FORMS`; ``auto`` recognises it by its columns.
        unit_nm: Size in nm of one unit of its positions (x, y, z), where neither table nor form tells it; null: that of
            ``preprocessing.position_voxel_size_nm``.
        polyadic: ``pairs``: a row for each pair of neurites; ``connectors``: one for each presynaptic site.
        load_args: For pandas' reader.
        credentials: Passed to fsspec.
    """

    refusal = "{filepath} is read, never written: it is a table of synapses made elsewhere."

    def __init__(
        self,
        *,
        filepath: str,
        form: str = "auto",
        unit_nm: VoxelSize | None = None,
        polyadic: Polyadic = "pairs",
        load_args: dict[str, Any] | None = None,
        credentials: dict[str, Any] | None = None,
        metadata: dict[str, Any] | None = None,
    ) -> None:
        self._filepath = filepath
        self._form = form
        self._unit_nm = unit_nm if unit_nm is None else (float(unit_nm[0]), float(unit_nm[1]), float(unit_nm[2]))
        self._polyadic: Polyadic = polyadic
        self._load_args = load_args or {}
        self._credentials = credentials or {}
        self.metadata = metadata

    def load(self) -> pd.DataFrame:
        """Read the file and bring the table into the standard form.

        Raises:
            TableError: If it is in no known form or cannot be read; names the file.
        """
        try:
            return standard_synapse_table(self._read(), self._form, self._unit_nm, self._polyadic)
        except TableError as error:
            raise TableError(f"{self._filepath}: {error}") from error

    def preview(self, nrows: int = 5) -> dict[str, Any]:
        """The first rows for kedro-viz."""
        preview: dict[str, Any] = self.load().head(nrows).to_dict(orient="split")
        return preview

    def _read(self) -> pd.DataFrame:
        suffixes = [suffix for suffix in PurePosixPath(self._filepath).suffixes if suffix.lower() not in _COMPRESSED]
        kind = suffixes[-1].lower() if suffixes else ""
        with self._open() as file:
            if kind in _TEXT:
                arguments: dict[str, Any] = {"sep": self._separator(), "skipinitialspace": True} | self._load_args
                return pd.read_csv(file, **arguments)
            if kind in (".parquet", ".pq"):
                return pd.read_parquet(file, **self._load_args)
            if kind in (".feather", ".arrow"):
                return pd.read_feather(file, **self._load_args)
            if kind in _HDF5:
                return read_cremi(file)
        raise TableError(
            f"files of kind '{kind}' are not read as synapse tables. Expected .csv, .tsv, .txt, .parquet, .feather or "
            "a CREMI .hdf."
        )

    def _separator(self) -> str:
        with self._open() as file:
            first = file.readline().decode("utf-8-sig")
        return max(_SEPARATORS, key=first.count)

    def _open(self) -> IO[bytes]:
        opened: IO[bytes] = fsspec.open(self._filepath, "rb", compression="infer", **self._credentials).open()
        return opened

    def _describe(self) -> dict[str, Any]:
        return {
            "filepath": self._filepath,
            "form": self._form,
            "unit_nm": self._unit_nm,
            "polyadic": self._polyadic,
        }
