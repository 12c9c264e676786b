"""The synapse table, and synapse ids: as parameters (in a list, alone, or on the command line), and matched in tables.

On the command line a comma means the next parameter, so ids are joined there by ``+``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Annotated, Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from pydantic import BeforeValidator

from synapseclr.errors import TableError
from synapseclr.volumes.table_schema import ID, ROOT_ID, Column, TableSchema

POSITION_COLUMNS = ["ctr_pos_x_vx", "ctr_pos_y_vx", "ctr_pos_z_vx"]
PRESYNAPTIC = "presynaptic_root_id"
"""Column that names the presynaptic one of the two neurites; 0 where that is not known."""

SYNAPSE_TABLE = TableSchema(
    "The synapse table",
    {
        "id": ID,
        "pre_root_id": ROOT_ID,
        "post_root_id": ROOT_ID,
        "ctr_pos_x_vx": Column(),
        "ctr_pos_y_vx": Column(),
        "ctr_pos_z_vx": Column(),
        PRESYNAPTIC: Column("root_id", optional=True),
    },
    key="id",
    may_be_empty=False,
)
UNIT_NM = "unit_nm"
"""Attribute of a table whose positions came in nm: size (x, y, z) of the unit in which they were read."""

_IN_NM = frozenset({"ctr_pos_x_nm", "ctr_pos_y_nm", "ctr_pos_z_nm"})


def check_synapse_table(table: pd.DataFrame, unit_nm: tuple[float, float, float] | None = None) -> pd.DataFrame:
    """Check a synapse table and give its columns their types.

    Args:
        table: One row a synapse: ``id, pre_root_id, post_root_id`` (integers) and the centre ``ctr_pos_{x,y,z}_vx``, or
            in nm ``ctr_pos_{x,y,z}_nm``. Other forms: :mod:`synapseclr.volumes.table_forms`. Where the order of the
            two ids says nothing, ``presynaptic_root_id`` names the presynaptic one.
        unit_nm: Size of the voxels (x, y, z) in which positions are returned; needed for those in nm.

    Returns:
        The table with 64-bit integer ids and float64 positions ``ctr_pos_{x,y,z}_vx``; further columns stay. One whose
        positions came in nm has the attribute :data:`UNIT_NM`. Rows whose presynaptic neurite stood as the postsynaptic
        one have all ``pre_*`` and ``post_*`` columns exchanged.

    Raises:
        TableError: If a column is missing, the table is empty, an id occurs twice, or a value is not a whole number
            (ids) or not finite (positions), or the presynaptic neurite is neither of the two.
    """
    if unit_nm is not None and _IN_NM.issubset(table.columns) and not set(POSITION_COLUMNS) & set(table.columns):
        in_vx = {f"ctr_pos_{axis}_vx": table[f"ctr_pos_{axis}_nm"] / unit_nm[d] for d, axis in enumerate("xyz")}
        read_in_nm = table.attrs.get(UNIT_NM, (1.0, 1.0, 1.0))
        checked = SYNAPSE_TABLE.validate(table.drop(columns=list(_IN_NM)).assign(**in_vx))
        checked.attrs[UNIT_NM] = read_in_nm
        return _ordered_by_side(checked)
    return _ordered_by_side(SYNAPSE_TABLE.validate(table))


def _ordered_by_side(synapses: pd.DataFrame) -> pd.DataFrame:
    """Exchange the columns of both sides where the presynaptic neurite stands as the postsynaptic one."""
    if PRESYNAPTIC not in synapses:
        return synapses
    presynaptic_n = synapses[PRESYNAPTIC]
    is_pre, is_post = presynaptic_n == synapses["pre_root_id"], presynaptic_n == synapses["post_root_id"]
    strange = (presynaptic_n != 0) & ~is_pre & ~is_post
    if strange.any():
        synapse_id, named, pre, post = (
            synapses.loc[strange, name].iloc[0] for name in ("id", PRESYNAPTIC, "pre_root_id", "post_root_id")
        )
        raise TableError(
            f"The synapse table's {PRESYNAPTIC} of synapse {synapse_id} is {named}, which is neither its pre_root_id "
            f"{pre} nor its post_root_id {post}. Give one of the two, or 0 where the side is not known."
        )
    swap = (presynaptic_n != 0) & is_post & ~is_pre
    swapped = synapses.copy()
    for pre in [str(name) for name in synapses if str(name).startswith("pre_")]:
        post = f"post_{pre.removeprefix('pre_')}"
        if post in synapses:
            swapped[pre] = synapses[pre].where(~swap, synapses[post])
            swapped[post] = synapses[post].where(~swap, synapses[pre])
    return swapped


def further_columns(synapses: pd.DataFrame, taken: Collection[str]) -> pd.DataFrame:
    """Columns of a synapse table that this project does not know, in types that tables and AnnData can store.

    Args:
        synapses: As :func:`check_synapse_table` returns it.
        taken: Names that are not to be given again.

    Returns:
        The same rows; mixed columns, lists and times are texts, of which an empty cell is an empty one.
    """
    further = synapses[[name for name in synapses.columns if name not in {*SYNAPSE_TABLE.columns, *taken}]].copy()
    for name in further.columns:
        is_number = pd.api.types.is_numeric_dtype(further[name]) or pd.api.types.is_bool_dtype(further[name])
        if not is_number:
            further[name] = further[name].map(lambda value: "" if _is_empty(value) else str(value)).astype("str")
    return further.rename(columns=str)


def _is_empty(value: object) -> bool:
    return value is None or value is pd.NaT or (isinstance(value, float) and value != value)


def parse_synapse_ids(value: Any) -> Any:
    """Read ids given as a number, a list, or a text such as ``12+34``.

    Args:
        value: As it stands in the parameters.

    Returns:
        A tuple of integers; anything that is none of these is returned as it is, for the model to refuse.

    Raises:
        ValueError: If a text holds something other than whole numbers.
    """
    if isinstance(value, bool) or value is None:
        return value
    if isinstance(value, int):
        return (value,)
    if isinstance(value, str):
        parts = [part for part in re.split(r"[+,;\s]+", value) if part]
        if not all(re.fullmatch(r"\d+", part) for part in parts):
            raise ValueError(f"'{value}' is not a list of synapse ids; write 12 or 12+34")
        return tuple(int(part) for part in parts)
    return value


def is_chunk_path(value: Any) -> bool:
    """Tell whether a query names a file rather than synapses: a text that is no list of whole numbers."""
    return isinstance(value, str) and bool(value.strip()) and not re.fullmatch(r"[\d+,;\s]+", value)


def parse_query(value: Any) -> Any:
    """Read what to search for: ids, as :func:`parse_synapse_ids` does, or the path of a chunk, which stays a text."""
    looks_like_path = is_chunk_path(value) and any(mark in value for mark in ("/", ".npy", ".zarr"))
    return value if looks_like_path else parse_synapse_ids(value)


SynapseIds = Annotated[tuple[int, ...], BeforeValidator(parse_synapse_ids)]
"""Type of a parameter that holds synapse ids."""

QueryValue = Annotated[tuple[int, ...] | str, BeforeValidator(parse_query)]
"""Type of a parameter that holds synapse ids or the path of a chunk."""


def _values(ids: ArrayLike, dtype: Any = None) -> NDArray[Any]:
    """Ids as an array. NumPy asks a series for attributes, which pandas seeks among its names: a hash table of all."""
    return ids.to_numpy(dtype) if isinstance(ids, pd.Series) else np.asarray(ids, dtype)


def match_ids(wanted_id: ArrayLike, present_id: ArrayLike, complain: Callable[[list[int]], str]) -> NDArray[np.int64]:
    """Find the rows of synapses by their ids.

    Args:
        wanted_id: Ids (w,).
        present_id: Ids of all rows, (n,), each once.
        complain: Words the error; takes the ids that are missing, in the order asked for.

    Returns:
        int64 (w,): rows, in the order asked for.

    Raises:
        TableError: If an id is missing.
    """
    wanted_w, present_n = _values(wanted_id, np.int64), _values(present_id)
    if np.array_equal(wanted_w, present_n):  # no table of hashes, which takes 40 bytes an id
        return np.arange(len(wanted_w), dtype=np.int64)
    rows_w = pd.Index(present_n).get_indexer(pd.Index(wanted_w))
    if (rows_w < 0).any():
        raise TableError(complain(wanted_w[rows_w < 0].tolist()))
    return np.asarray(rows_w, np.int64)


def rows_of_ids(wanted: tuple[int, ...], synapse_id: np.ndarray, parameter: str) -> NDArray[np.int64]:
    """Find the synapses that a parameter names, each once; raises as :func:`match_ids` does.

    Args:
        wanted: Ids.
        synapse_id: int64 (n,): ids of all embedded synapses.
        parameter: Its name, for the message.
    """
    return match_ids(
        list(dict.fromkeys(wanted)),
        synapse_id,
        lambda missing: (
            f"Parameter {parameter} names synapses without embedding: {missing}. There are {len(synapse_id)} embedded "
            f"synapses here, such as {synapse_id[:3].tolist()}. A synapse of the table that is missing was rejected by "
            "preprocessing, whose report says why, or is left out as defective (outliers.exclude)."
        ),
    )


def aligned_rows(wanted_id: np.ndarray, present_id: np.ndarray, name: str) -> NDArray[np.int64]:
    """Find the rows of a table in the order of the embedded synapses (n,); raises as :func:`match_ids` does.

    Args:
        wanted_id: Ids of the embedded synapses, (n,).
        present_id: Ids of the table's rows; may hold more.
        name: Name of the table, for the message.
    """
    return match_ids(
        wanted_id,
        present_id,
        lambda missing: (
            f"'{name}' lacks {len(missing)} synapses that 'synapse_embeddings' holds, such as {missing[:3]}: run "
            "`kedro run --pipeline=embedding` again."
        ),
    )


def positions_in_store(wanted_id: np.ndarray, stored_id: np.ndarray) -> NDArray[np.int64]:
    """Find the positions of synapses (k,) in a chunk store that has these ids; raises as :func:`match_ids` does."""
    return match_ids(
        wanted_id,
        stored_id,
        lambda missing: (
            f"{len(missing)} synapses have no chunk in the store, such as {missing[:3]}: run preprocessing and "
            "embedding on the same synapse table."
        ),
    )


def table_rows(table: pd.DataFrame, synapse_id: ArrayLike) -> pd.DataFrame:
    """Bring a table into the order of synapses.

    Args:
        table: One row per synapse, with ``synapse_id``; of several, the first counts.
        synapse_id: int64 (n,).

    Returns:
        n rows by ``synapse_id``; NaN for synapses that the table lacks.
    """
    present_n, wanted_n = table["synapse_id"].to_numpy(), _values(synapse_id)
    if np.array_equal(present_n, wanted_n) and (np.diff(present_n) > 0).all():  # in order and each once: no copies
        of_others = {name: table[name].array for name in table.columns if name != "synapse_id"}
        return pd.DataFrame(of_others, index=pd.Index(present_n, name="synapse_id"), copy=False)
    rows = SynapseRows(present_n).rows(wanted_n)  # an index of pandas would hash every id of a long table
    found = table.set_axis(pd.RangeIndex(len(table))).reindex(rows)  # -1 is not in it
    return found.drop(columns="synapse_id").set_axis(pd.Index(wanted_n, name="synapse_id"))


class SynapseRows(Mapping[int, int]):
    """Rows of synapses by their ids: a dictionary that takes no memory of its own where the ids ascend.

    Args:
        synapse_id: int64 (n,), no id twice; may be mapped from a file.
    """

    def __init__(self, synapse_id: np.ndarray) -> None:
        self._sorted_id, self._row_of_place = synapse_id, None
        if len(synapse_id) > 1 and not (synapse_id[1:] > synapse_id[:-1]).all():
            self._row_of_place = np.argsort(synapse_id, kind="stable")
            self._sorted_id = synapse_id[self._row_of_place]

    def rows(self, wanted_id: ArrayLike) -> NDArray[np.int64]:
        """Find the rows of ids (k,); -1 for those that are not there."""
        wanted_id = _values(wanted_id, np.int64)
        if not len(self):
            return np.full(len(wanted_id), -1, np.int64)
        place_k = np.minimum(np.searchsorted(self._sorted_id, wanted_id), len(self) - 1)
        row_k = place_k if self._row_of_place is None else self._row_of_place[place_k]
        return np.where(self._sorted_id[place_k] == wanted_id, row_k, -1)

    def __getitem__(self, synapse_id: int) -> int:
        row = -1 if not -(2**63) <= synapse_id < 2**63 else int(self.rows([synapse_id])[0])
        if row < 0:
            raise KeyError(synapse_id)
        return row

    def __iter__(self) -> Iterator[int]:
        return iter(self._sorted_id.tolist())

    def __len__(self) -> int:
        return len(self._sorted_id)
