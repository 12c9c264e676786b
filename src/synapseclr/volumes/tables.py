"""The synapse table: which synapses there are, and where."""

from __future__ import annotations

import numpy as np
import pandas as pd

from synapseclr.errors import TableError

POSITION_COLUMNS = ["ctr_pos_x_vx", "ctr_pos_y_vx", "ctr_pos_z_vx"]
SYNAPSE_COLUMNS = ["id", "pre_root_id", "post_root_id", *POSITION_COLUMNS]


def check_columns(table: pd.DataFrame, columns: list[str], name: str) -> None:
    """Raise a :class:`TableError` that names the missing columns, or says that the table is empty."""
    missing = [column for column in columns if column not in table.columns]
    if missing:
        raise TableError(
            f"{name} lacks the column{'s' * (len(missing) > 1)} {', '.join(missing)}; it has "
            f"{', '.join(map(str, table.columns))}. Needed are {', '.join(columns)}."
        )
    if table.empty:
        raise TableError(f"{name} has no rows. It needs at least one synapse.")


def check_synapse_table(table: pd.DataFrame) -> pd.DataFrame:
    """Check a synapse table and give its columns their types.

    Args:
        table: One row a synapse: ``id, pre_root_id, post_root_id`` (integers) and the centre ``ctr_pos_{x,y,z}_vx``.

    Returns:
        The table with 64-bit integer ids and float64 positions; further columns are left out.

    Raises:
        TableError: If a column is missing, the table is empty, an id occurs twice, or a value is not a whole number
            (ids) or not finite (positions).
    """
    check_columns(table, SYNAPSE_COLUMNS, "The synapse table")
    checked = pd.DataFrame({name: as_ids(table[name], name, "The synapse table") for name in SYNAPSE_COLUMNS[:3]})
    for name in POSITION_COLUMNS:
        positions = pd.to_numeric(table[name], errors="coerce").astype("float64")
        bad = table["id"][~np.isfinite(positions)]
        if len(bad):
            raise TableError(
                f"The synapse table's {name} is not a number for synapse {_some(bad)}. Give its voxel position."
            )
        checked[name] = positions
    twice = checked["id"][checked["id"].duplicated()].unique()
    if len(twice):
        raise TableError(
            f"The synapse table has id {_some(twice)} more than once. Each synapse needs an id of its own."
        )
    return checked


def as_ids(column: pd.Series, name: str, table_name: str) -> pd.Series:
    """Return 64-bit integers without ever passing through floats, which are exact only up to 2^53.

    Raises:
        TableError: If a value is missing, fractional or negative, or arrived as a float above 2^53.
    """
    if pd.api.types.is_integer_dtype(column) and not column.isna().any():
        return column.astype(
            "uint64" if column.dtype == np.uint64 and column.max() > np.iinfo(np.int64).max else "int64"
        )
    numbers = pd.to_numeric(column, errors="coerce")
    is_float = pd.api.types.is_float_dtype(numbers)
    bad = column[numbers.isna() | ((numbers % 1 != 0) | (numbers.abs() > 2**53) if is_float else False)]
    if len(bad):
        raise TableError(
            f"{table_name}'s {name} holds {_some(bad)}, which is not a whole number below 2^63 kept exactly. "
            "Store ids as integers (not as floats) and leave no cell empty."
        )
    return numbers.astype("int64")


def _some(values: pd.Series | np.ndarray) -> str:
    shown = ", ".join(map(str, list(values)[:3]))
    return shown if len(values) <= 3 else f"{shown} and {len(values) - 3} more"
