import io

import numpy as np
import pandas as pd
import pytest

from synapseclr.errors import TableError
from synapseclr.volumes import check_synapse_table

BIG = 648_518_346_349_500_001


def table(**changes):
    columns = {
        "id": [1, 2],
        "pre_root_id": [BIG, BIG + 1],
        "post_root_id": [5, 6],
        "ctr_pos_x_vx": [1, 2],
        "ctr_pos_y_vx": [1, 2],
        "ctr_pos_z_vx": [1, 2],
    }
    return pd.DataFrame({**columns, **changes})


def test_ids_above_2_to_53_stay_exact_through_csv():
    text = table().to_csv(index=False)
    checked = check_synapse_table(pd.read_csv(io.StringIO(text)))
    assert checked["pre_root_id"].tolist() == [BIG, BIG + 1]
    assert checked["pre_root_id"].dtype == np.int64


def test_unsigned_ids_above_int64_are_kept():
    large = 2**63 + 5
    checked = check_synapse_table(table(pre_root_id=np.array([large, 1], dtype=np.uint64)))
    assert checked["pre_root_id"].tolist() == [large, 1]


@pytest.mark.parametrize("column", ["id", "post_root_id", "ctr_pos_z_vx"])
def test_a_missing_column_is_named(column):
    with pytest.raises(TableError, match=f"lacks the column {column}"):
        check_synapse_table(table().drop(columns=column))


def test_an_empty_table_is_an_error():
    with pytest.raises(TableError, match="has no rows"):
        check_synapse_table(table()[:0])


def test_a_repeated_id_is_named():
    with pytest.raises(TableError, match="has id 4 more than once"):
        check_synapse_table(table(id=[4, 4]))


def test_an_empty_root_id_is_an_error():
    with pytest.raises(TableError, match="post_root_id holds nan"):
        check_synapse_table(table(post_root_id=[1.0, np.nan]))


def test_a_float_id_above_2_to_53_is_an_error():
    with pytest.raises(TableError, match="Store ids as integers"):
        check_synapse_table(table(pre_root_id=[float(BIG), 2.0]))


def test_a_position_that_is_no_number_names_the_synapse():
    with pytest.raises(TableError, match="ctr_pos_x_vx is not a number for synapse 2"):
        check_synapse_table(table(ctr_pos_x_vx=[1, "left"]))
