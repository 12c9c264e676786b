"""Kedro's datasets of single files, written whole or not at all, and checked when they are read again.

The catalog's outputs have these types. In every other respect, and in buckets, where an object appears when its upload
is complete, they are the datasets of ``kedro_datasets`` under the same names.
"""

from __future__ import annotations

import copy
from pathlib import PurePosixPath
from typing import Any

import pandas as pd
from kedro.io import DatasetError
from kedro.io.core import get_filepath_str
from kedro_datasets import json, matplotlib, pandas, plotly, text

from synapseclr.storage.atomic_files import check_file, written_whole


class _WholeFile:
    """Comes before a dataset of ``kedro_datasets`` among the bases."""

    _filepath: PurePosixPath
    _protocol: str
    _version: Any

    @property
    def _is_plain_local_file(self) -> bool:
        return self._protocol == "file" and self._version is None

    def load(self) -> Any:
        """Load the file; raises OutputError if it is not as it was written."""
        if self._is_plain_local_file:
            check_file(str(self._filepath))
        return super().load()  # type: ignore[misc]

    def save(self, data: Any) -> None:
        """Save beside the old file, then replace it."""
        if not self._is_plain_local_file:
            super().save(data)  # type: ignore[misc]
            return
        with written_whole(str(self._filepath)) as partial:
            beside = copy.copy(self)
            beside._filepath = PurePosixPath(partial.as_posix())
            try:
                super(_WholeFile, beside).save(data)  # type: ignore[misc]
            except DatasetError as error:  # Kedro's sentence would name the temporary file
                raise error.__cause__ or error from None


class CSVDataset(_WholeFile, pandas.CSVDataset):
    """``pandas.CSVDataset``."""


class ParquetDataset(_WholeFile, pandas.ParquetDataset):
    """``pandas.ParquetDataset``."""


class JSONDataset(_WholeFile, json.JSONDataset):
    """``json.JSONDataset``."""


class TextDataset(_WholeFile, text.TextDataset):
    """``text.TextDataset``."""


class PlotlyJSONDataset(_WholeFile, plotly.JSONDataset):
    """``plotly.JSONDataset``."""


class OptionalJSONDataset(JSONDataset):
    """A JSON file that loads as an empty mapping where there is none, such as the section of a pipeline not yet run."""

    def load(self) -> Any:
        """Read the file, or make an empty mapping."""
        return super().load() if self.exists() else {}


class _LoadableFigure(matplotlib.MatplotlibDataset):
    def load(self) -> bytes:
        with self._fs.open(get_filepath_str(self._get_load_path(), self._protocol), mode="rb") as file:
            return bytes(file.read())


class MatplotlibDataset(_WholeFile, _LoadableFigure):
    """``matplotlib.MatplotlibDataset``, which loads the bytes of the picture, so that the report need not draw it."""


class OptionalCSVDataset(CSVDataset):
    """A CSV table that loads as an empty one, without columns, where there is no file.

    For what cannot be demanded of real data, such as the truth behind a simulation. In every other respect it is
    :class:`CSVDataset`.
    """

    def load(self) -> pd.DataFrame:
        """Read the table, or make an empty one."""
        return super().load() if self.exists() else pd.DataFrame()
