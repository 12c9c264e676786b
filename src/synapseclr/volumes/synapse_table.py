"""The synapse table: which synapses there are, and where."""

from __future__ import annotations

from collections.abc import Collection

import pandas as pd

from synapseclr.volumes.table_schema import ID, ROOT_ID, Column, TableSchema

POSITION_COLUMNS = ["ctr_pos_x_vx", "ctr_pos_y_vx", "ctr_pos_z_vx"]
SYNAPSE_TABLE = TableSchema(
    "The synapse table",
    {
        "id": ID,
        "pre_root_id": ROOT_ID,
        "post_root_id": ROOT_ID,
        "ctr_pos_x_vx": Column(),
        "ctr_pos_y_vx": Column(),
        "ctr_pos_z_vx": Column(),
    },
    key="id",
    may_be_empty=False,
)
_IN_NM = frozenset({"ctr_pos_x_nm", "ctr_pos_y_nm", "ctr_pos_z_nm"})


def check_synapse_table(table: pd.DataFrame, unit_nm: tuple[float, float, float] | None = None) -> pd.DataFrame:
    """Check a synapse table and give its columns their types.

    Args:
        table: One row a synapse: ``id, pre_root_id, post_root_id`` (integers) and the centre ``ctr_pos_{x,y,z}_vx``, or
            in nm ``ctr_pos_{x,y,z}_nm``. Other forms: :mod:`synapseclr.volumes.table_forms`.
        unit_nm: Size of the voxels (x, y, z) in which positions are returned; needed for those in nm.

    Returns:
        The table with 64-bit integer ids and float64 positions ``ctr_pos_{x,y,z}_vx``; further columns stay.

    Raises:
        TableError: If a column is missing, the table is empty, an id occurs twice, or a value is not a whole number
            (ids) or not finite (positions).
    """
    if unit_nm is not None and _IN_NM.issubset(table.columns) and not set(POSITION_COLUMNS) & set(table.columns):
        in_vx = {f"ctr_pos_{axis}_vx": table[f"ctr_pos_{axis}_nm"] / unit_nm[d] for d, axis in enumerate("xyz")}
        table = table.drop(columns=list(_IN_NM)).assign(**in_vx)
    return SYNAPSE_TABLE.validate(table)


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
