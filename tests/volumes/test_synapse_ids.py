"""Synapses are matched by exact 64-bit ids, in the order asked for."""

import numpy as np
import pandas as pd
import pytest

from synapseclr.errors import TableError
from synapseclr.volumes.synapse_ids import aligned_rows, match_ids, positions_in_store, rows_of_ids, table_rows

PRESENT = np.array([2**62 + 1, 7, 2**62, 12])


def test_rows_come_in_the_order_asked_for_and_ids_stay_exact():
    rows = match_ids([12, 2**62, 2**62 + 1, 12], PRESENT, str)
    assert rows.tolist() == [3, 2, 0, 3]
    assert rows.dtype == np.int64
    assert match_ids([], PRESENT, str).tolist() == []


def test_missing_ids_are_named_in_the_order_asked_for():
    with pytest.raises(TableError, match=r"^\[5, 4611686018427387906\]$"):
        match_ids([5, 7, 2**62 + 2], PRESENT, str)


def test_ids_of_a_parameter_are_looked_up_once():
    assert rows_of_ids((7, 12, 7), PRESENT, "similarity.query").tolist() == [1, 3]
    with pytest.raises(TableError, match=r"similarity.query names synapses without embedding: \[9\]. There are 4"):
        rows_of_ids((9,), PRESENT, "similarity.query")


@pytest.mark.parametrize(
    ("find", "message"),
    [
        (lambda wanted: aligned_rows(wanted, PRESENT, "mask_statistics"), "'mask_statistics' lacks 1 synapses"),
        (lambda wanted: positions_in_store(wanted, PRESENT), "1 synapses have no chunk in the store, such as .3."),
    ],
)
def test_errors_name_the_table_or_the_store(find, message):
    assert find(np.array([7])).tolist() == [1]
    with pytest.raises(TableError, match=message):
        find(np.array([7, 3]))


def test_rows_of_a_table_are_nan_for_synapses_that_it_lacks():
    table = pd.DataFrame({"synapse_id": [7, 12, 7], "size": [1.0, 2.0, 3.0]})
    np.testing.assert_array_equal(table_rows(table, np.array([12, 5, 7]))["size"], [2.0, np.nan, 1.0])
