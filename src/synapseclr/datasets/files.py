"""Files and folders as Kedro datasets: written whole or not at all, checked when they are read again, or only read.

The catalog's outputs have these types. In every other respect, and in buckets, where an object appears when its upload
is complete, those of single files are the datasets of ``kedro_datasets`` under the same names.
"""

from __future__ import annotations

import copy
import json
import logging
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, ClassVar, Generic, NoReturn, TypeVar

import kedro_datasets.json
import kedro_datasets.matplotlib
import kedro_datasets.pandas
import kedro_datasets.plotly
import kedro_datasets.text
import pandas as pd
import pyarrow
from kedro.io import AbstractDataset, DatasetError
from kedro.io.core import get_filepath_str

from synapseclr.storage.addresses import is_local, open_filesystem
from synapseclr.storage.atomic_files import check_file, parse_json_object, read_json_object, update_json, written_whole
from synapseclr.storage.stored_table import STORED_FROM_BYTES, StoredTable

if TYPE_CHECKING:
    from matplotlib.figure import Figure

logger = logging.getLogger(__name__)

T = TypeVar("T")


class ReadOnlyDataset(AbstractDataset[None, T], Generic[T]):
    """A dataset that refuses to be saved, and that counts as existing: what is wrong with it is said when it is loaded.

    Attributes:
        refusal: Reason why it cannot be saved; ``{filepath}`` and the other names of :meth:`_describe` are filled in.
    """

    refusal: ClassVar[str]

    def save(self, data: None) -> NoReturn:
        """Refuse; raises DatasetError with the reason."""
        raise DatasetError(self.refusal.format(**self._describe()))

    def _exists(self) -> bool:
        return True

    def _describe(self) -> dict[str, Any]:
        return {"filepath": self._filepath} if hasattr(self, "_filepath") else {}


class AtAddress:
    """Comes before a dataset's other bases: one that lies at a local path or fsspec URL, with its file system.

    Args:
        filepath: Local path or fsspec URL.
        credentials: Passed to fsspec.
        metadata: Of other Kedro plugins.
    """

    def __init__(
        self, *, filepath: str, credentials: dict[str, Any] | None = None, metadata: dict[str, Any] | None = None
    ) -> None:
        self._filepath, self._credentials = filepath, credentials
        self._filesystem, self._path = open_filesystem(filepath, credentials)
        self.metadata = metadata

    @property
    def _is_local(self) -> bool:
        return is_local(self._filepath)

    @property
    def local_path(self) -> Path | None:
        """Path on this machine; None for a URL."""
        return Path(self._path) if self._is_local else None

    def _describe(self) -> dict[str, Any]:
        return {"filepath": self._filepath}


class _WholeFile:
    """Comes before a dataset of ``kedro_datasets`` among the bases."""

    _filepath: PurePosixPath
    _protocol: str
    _version: Any

    @property
    def _is_plain_local_file(self) -> bool:
        return self._protocol == "file" and self._version is None

    @property
    def local_path(self) -> Path | None:
        """Path on this machine; None for a URL or a file that Kedro versions."""
        return Path(self._filepath) if self._is_plain_local_file else None

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


class CSVDataset(_WholeFile, kedro_datasets.pandas.CSVDataset):
    """``pandas.CSVDataset``."""


class ParquetDataset(_WholeFile, kedro_datasets.pandas.ParquetDataset):
    """``pandas.ParquetDataset``, which may leave a table in its file.

    Args:
        in_memory: True: load a pandas table; False: a :class:`~synapseclr.storage.stored_table.StoredTable`, whose
            columns are read when they are asked for; ``auto``: that from 0.2 GB on.
        **options: Those of ``pandas.ParquetDataset``.
    """

    def __init__(self, *, in_memory: bool | str = True, **options: Any) -> None:
        super().__init__(**options)
        if in_memory not in (True, False, "auto"):
            raise DatasetError(f"in_memory is {in_memory!r}; it must be true, false or auto.")
        self._in_memory = in_memory

    def load(self) -> pd.DataFrame | StoredTable:
        """Load the table, or open it; raises OutputError if the file is not as it was written."""
        path = get_filepath_str(self._get_load_path(), self._protocol)
        is_opened = self._in_memory is False or (self._in_memory == "auto" and self._is_large(path))
        if not is_opened:
            table = super().load()
            pyarrow.default_memory_pool().release_unused()  # as much as the table
            return table
        if self._is_plain_local_file:
            check_file(path)
            return StoredTable(path)
        return StoredTable(f"{self._protocol}://{path}", self._storage_options)

    def _is_large(self, path: str) -> bool:
        return bool(self._fs.exists(path)) and self._fs.size(path) > STORED_FROM_BYTES


class JSONDataset(_WholeFile, kedro_datasets.json.JSONDataset):
    """``json.JSONDataset``."""


class TextDataset(_WholeFile, kedro_datasets.text.TextDataset):
    """``text.TextDataset``."""


class PlotlyJSONDataset(_WholeFile, kedro_datasets.plotly.JSONDataset):
    """``plotly.JSONDataset``."""


class OptionalJSONDataset(JSONDataset):
    """A JSON file that loads as an empty mapping where there is none, such as the section of a pipeline not yet run."""

    def load(self) -> Any:
        """Read the file, or make an empty mapping."""
        return super().load() if self.exists() else {}


class _LoadableFigure(kedro_datasets.matplotlib.MatplotlibDataset):
    def load(self) -> bytes:
        with self._fs.open(get_filepath_str(self._get_load_path(), self._protocol), mode="rb") as file:
            return bytes(file.read())

    def save(self, data: Figure) -> None:
        from synapseclr.plotting.theme import synapse_boxes

        noting = copy.copy(self)
        if boxes := synapse_boxes(data):
            noting._save_args = {**self._save_args, "metadata": boxes}
        super(_LoadableFigure, noting).save(data)


class MatplotlibDataset(_WholeFile, _LoadableFigure):
    """``matplotlib.MatplotlibDataset``, which loads the bytes of the picture, so that the report need not draw it.

    The file says where its synapses are (:func:`synapseclr.plotting.theme.synapse_boxes`).
    """


class OptionalMatplotlibDataset(MatplotlibDataset):
    """A picture that loads as no bytes where there is no file: of chunks, which features from elsewhere lack."""

    def load(self) -> bytes:
        """Read the picture, or nothing."""
        return bytes(super().load()) if self.exists() else b""


class OptionalCSVDataset(CSVDataset):
    """A CSV table that loads as an empty one, without columns, where there is no file.

    For what cannot be demanded of real data, such as the truth behind a simulation. In every other respect it is
    :class:`CSVDataset`.
    """

    def load(self) -> pd.DataFrame:
        """Read the table, or make an empty one."""
        return super().load() if self.exists() else pd.DataFrame()


class LedgerDataset(AtAddress, AbstractDataset[dict[str, Any], dict[str, Any]]):
    """Saves entries into a JSON object, beside those that are there; loads all of them.

    Several runs may save at once: on a local disk the file is locked while it is changed, and replaced as a whole. A
    missing or damaged file loads as an empty object, and one that cannot be written costs a warning: bookkeeping never
    ends a run.

    Args:
        filepath: Local path or fsspec URL.
        credentials: Passed to fsspec.
    """

    _has_warned = False

    def load(self) -> dict[str, Any]:
        """Return all entries."""
        try:
            if self.local_path is not None:
                return read_json_object(self.local_path)
            return parse_json_object(self._filesystem.cat_file(self._path), self._filepath)
        except FileNotFoundError:
            return {}
        except Exception as error:  # a bucket's client raises what it likes
            self._warn("read", error)
            return {}

    def save(self, data: dict[str, Any]) -> None:
        """Add entries, or replace those of the same name."""
        try:
            if self.local_path is not None:
                update_json(self.local_path, data)
            else:
                self._filesystem.pipe_file(self._path, json.dumps({**self.load(), **data}).encode())
        except Exception as error:
            self._warn("written", error)

    def _warn(self, what: str, error: Exception) -> None:
        if not self._has_warned:
            self._has_warned = True
            logger.warning("%s could not be %s: %s. The run goes on without it.", self._filepath, what, error)

    def _exists(self) -> bool:
        try:
            return bool(self._filesystem.exists(self._path))
        except Exception:
            return False


class FolderDataset(AtAddress, ReadOnlyDataset[str]):
    """Loads as the folder's path or URL.

    Args:
        filepath: Local path or fsspec URL.
        is_made: Make the folder when it is missing; else whoever writes into it does.
        **options: ``credentials``, which are passed to fsspec, and ``metadata``.
    """

    refusal = "{filepath} is a folder that nodes write into; it cannot be saved as a dataset."

    def __init__(self, *, filepath: str, is_made: bool = True, **options: Any) -> None:
        super().__init__(filepath=filepath, **options)
        self._is_made = is_made

    def load(self) -> str:
        """Return the path or URL."""
        if self._is_made:
            self._filesystem.makedirs(self._path, exist_ok=True)
        return self._filepath
