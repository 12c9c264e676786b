"""The synapse table: which synapses there are, and where."""

from __future__ import annotations

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
    only_these=True,
)
SYNAPSE_COLUMNS = list(SYNAPSE_TABLE.columns)


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
    return SYNAPSE_TABLE.validate(table)
