"""The synapse table, and ids as parameters and in tables."""

import io

import numpy as np
import pandas as pd
import pytest
from kedro.io import AbstractDataset

from synapseclr.errors import TableError
from synapseclr.volumes import check_synapse_table
from synapseclr.volumes.synapse_table import (
    SynapseRows,
    aligned_rows,
    further_columns,
    match_ids,
    positions_in_store,
    rows_of_ids,
    table_rows,
)

BIG = 648_518_346_349_500_001
PRESENT = np.array([2**62 + 1, 7, 2**62, 12])


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


def csv(text, **changes):
    return pd.read_csv(io.StringIO(text), **changes)


ROW = "1,648518346349500011,648518346349500006,52,142,70"
HEADER = "id,pre_root_id,post_root_id,ctr_pos_x_vx,ctr_pos_y_vx,ctr_pos_z_vx"


@pytest.mark.parametrize("separator", [";", "\t", "|"])
def test_another_separator_is_an_error_that_names_the_setting(separator):
    text = f"{HEADER}\n{ROW}\n".replace(",", separator)
    with pytest.raises(TableError, match=r"set `load_args: \{sep: ") as error:
        check_synapse_table(csv(text))
    sep = {";": '";"', "\t": '"\\t"', "|": '"|"'}[separator]  # as YAML takes it
    assert f"sep: {sep}" in str(error.value)
    assert len(check_synapse_table(csv(text, sep=separator))) == 1


def test_decimal_commas_do_not_hide_the_separator():
    with pytest.raises(TableError, match=r'sep: ";".* `decimal: ","`'):
        check_synapse_table(csv(HEADER.replace(",", ";") + "\n1;2;3;52,5;142,0;70,25\n"))


def test_spaces_around_column_names_are_no_part_of_them():
    assert check_synapse_table(csv(HEADER.replace(",", ", ") + f"\n{ROW}\n"))["pre_root_id"].tolist() == [
        648518346349500011
    ]


def test_a_table_as_cave_writes_it_is_recognised():
    raw = ",id,valid,pre_pt_root_id,post_pt_root_id,ctr_pt_position\n0,1,True,648518346349500011,5,[52 142 70]\n"
    with pytest.raises(TableError, match=r"from CAVE: in its catalog entry, set `type: .*SynapseTableD"):
        check_synapse_table(csv(raw))


def test_positions_in_nm_become_voxels_and_further_columns_stay():
    in_nm = csv("id,pre_root_id,post_root_id,ctr_pos_x_nm,ctr_pos_y_nm,ctr_pos_z_nm,size\n1,2,3,208,568,2800,9\n")
    checked = check_synapse_table(in_nm, (4, 4, 40))
    assert checked[["ctr_pos_x_vx", "ctr_pos_y_vx", "ctr_pos_z_vx"]].to_numpy().tolist() == [[52, 142, 70]]
    assert checked["size"].tolist() == [9]
    with pytest.raises(TableError, match="lacks the columns ctr_pos_x_vx"):
        check_synapse_table(in_nm)


def test_further_columns_are_numbers_flags_and_texts():
    mixed = table(
        size=[3, 4],
        is_checked=[True, False],
        note=["a", None],
        points=[[1, 2], np.array([3, 4])],
        created=pd.to_datetime(["2026-01-01", None]),
        partner=pd.Series([2**63 + 1, 7], dtype="uint64"),
    )
    further = further_columns(check_synapse_table(mixed), taken=["size"])
    assert list(further.columns) == ["is_checked", "note", "points", "created", "partner"]
    assert further["note"].tolist() == ["a", ""]
    assert further["points"].tolist() == ["[1, 2]", "[3 4]"]
    assert further["created"].tolist() == ["2026-01-01 00:00:00", ""]
    assert further["partner"].tolist() == [2**63 + 1, 7]


def test_names_of_another_case_are_pointed_out():
    with pytest.raises(TableError, match="Rename Pre_Root_ID to pre_root_id"):
        check_synapse_table(table().rename(columns={"pre_root_id": "Pre_Root_ID"}))


def test_an_id_that_a_spreadsheet_rounded_is_an_error_that_says_so():
    with pytest.raises(TableError, match=r"pre_root_id holds 6.49e.17.* Spreadsheets keep 15 digits"):
        check_synapse_table(csv(f"{HEADER}\n1,6.49E+17,648518346349500006,52,142,70\n"))
    with pytest.raises(TableError, match="id holds syn_001, which is not a whole number") as error:
        check_synapse_table(csv(f"{HEADER}\nsyn_{ROW.replace('1,', '001,', 1)}\n"))
    assert "Spreadsheets" not in str(error.value)


@pytest.mark.parametrize(
    "row", ["1,648518346349500011,648518346349500011,52,142,70", "1,648518346349500011,0,52,142,70"]
)
def test_autapses_and_synapses_without_one_neurite_are_no_errors(row):
    assert len(check_synapse_table(csv(f"{HEADER}\n{row}\n"))) == 1


def test_synapses_of_one_place_are_no_error():
    assert len(check_synapse_table(csv(f"{HEADER}\n{ROW}\n{ROW.replace('1,', '2,', 1)}\n"))) == 2


@pytest.mark.parametrize("dtype", ["uint64", "UInt64", "object"])
def test_a_synapse_id_that_int64_cannot_hold_is_refused_by_the_table(dtype):
    with pytest.raises(TableError, match=f"id holds {2**63 + 5}, which is not .* below 2.63"):
        check_synapse_table(table(id=pd.Series([2**63 + 5, 2], dtype=dtype)))


@pytest.mark.parametrize("dtype", ["uint64", "UInt64", "object"])
def test_root_ids_of_one_table_have_one_type(dtype):
    """int64 and uint64 would be joined to float64."""
    checked = check_synapse_table(table(pre_root_id=pd.Series([2**63 + 5, BIG], dtype=dtype)))
    assert checked["post_root_id"].dtype == np.uint64
    together = pd.concat([checked["pre_root_id"], checked["post_root_id"]])
    assert together.tolist() == [2**63 + 5, BIG, 5, 6]
    assert np.concatenate([checked["pre_root_id"], checked["post_root_id"]]).dtype == np.uint64
    assert checked["id"].dtype == np.int64


def test_a_root_id_beyond_64_bits_is_refused():
    with pytest.raises(TableError, match="pre_root_id holds 18446744073709551616"):
        check_synapse_table(table(pre_root_id=[2**64, 1]))


def test_a_catalog_entry_reads_a_table_of_caves_and_states_its_unit(tmp_path):
    raw = ",id,valid,pre_pt_root_id,post_pt_root_id,ctr_pt_position\n0,1,True,648518346349500011,5,[ 52 142  70]\n"
    (tmp_path / "synapses_pni_2.csv").write_text(raw)
    entry = {
        "type": "synapseclr.datasets.SynapseTableDataset",
        "filepath": str(tmp_path / "synapses_pni_2.csv"),
        "unit_nm": [4, 4, 40],
    }
    checked = check_synapse_table(AbstractDataset.from_config("synapse_table", entry).load(), (8, 8, 40))
    assert checked[["ctr_pos_x_vx", "ctr_pos_y_vx", "ctr_pos_z_vx"]].to_numpy().tolist() == [[26.0, 71.0, 70.0]]
    assert checked["pre_root_id"].tolist() == [648518346349500011]


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


@pytest.mark.parametrize("ids", [[3, 9, 2**62], [9, 2**62, 3], []])
def test_rows_of_ids_are_those_of_a_dictionary(ids):
    rows, expected = SynapseRows(np.array(ids, np.int64)), {identifier: row for row, identifier in enumerate(ids)}
    wanted = [3, 4, 9, 2**62, 2**63 - 1, -1]
    assert [rows.get(each) for each in wanted] == [expected.get(each) for each in wanted]
    assert rows.rows(wanted).tolist() == [expected.get(each, -1) for each in wanted]
    assert dict(rows) == expected
    assert 2**64 not in rows
