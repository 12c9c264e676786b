"""Tables as CAVE, neuPrint, FlyWire and others write them; ids and positions are made up."""

import io
import logging

import numpy as np
import pandas as pd
import pytest

from synapseclr.errors import TableError
from synapseclr.volumes.table_forms import FORMS, recognise, standard_synapse_table

LARGE = 2**53 + 1  # a float would round it
ROOTS = {"pre": 648518346349500011, "post": 648518346349500006}
POSITIONS = {unit: [f"ctr_pos_{axis}_{unit}" for axis in "xyz"] for unit in ("nm", "vx")}
OURS = f"{LARGE},{ROOTS['pre']},{ROOTS['post']},52,142,70"
TABLES = {
    "synapseclr": f"id,pre_root_id,post_root_id,{','.join(POSITIONS['vx'])}\n{OURS}\n",
    "synapseclr_nm": f"id,pre_root_id,post_root_id,{','.join(POSITIONS['nm'])}\n{OURS}\n",
    "cave": "id,valid,pre_pt_root_id,post_pt_root_id,ctr_pt_position,size\n"
    f"{LARGE},t,{ROOTS['pre']},{ROOTS['post']},[52 142 70],9\n",
    "cave_two_points": "id,pre_pt_root_id,post_pt_root_id,pre_pt_position,post_pt_position,cleft_score,gaba\n"
    f'{LARGE},{ROOTS["pre"]},{ROOTS["post"]},"[50, 140, 70]","[54, 144, 70]",120,0.2\n',
    "neuprint": "bodyId_pre,bodyId_post,roi_pre,x_pre,y_pre,z_pre,x_post,y_post,z_post,confidence_pre\n"
    f"{ROOTS['pre']},{ROOTS['post']},EB,50,140,69,54,144,71,0.9\n",
    "flyem": "x_pre,y_pre,z_pre,body_pre,conf_pre,x_post,y_post,z_post,body_post,conf_post,primary_post\n"
    f"50,140,69,{ROOTS['pre']},0.9,54,144,71,{ROOTS['post']},0.8,EB\n",
    "sjcabs": f"pre,post,x,y,z,connector_id,syn_top_nt\n{ROOTS['pre']},{ROOTS['post']},52,142,70,7,gaba\n",
    "cremi": "pre_root_id,post_root_id,pre_site_id,pre_pos_x_nm,pre_pos_y_nm,pre_pos_z_nm,post_pos_x_nm,post_pos_y_nm,"
    f"post_pos_z_nm\n{ROOTS['pre']},{ROOTS['post']},3,50,140,69,54,144,71\n",
    "h01": "pre_synaptic_site.neuron_id,post_synaptic_partner.neuron_id,location.x,location.y,location.z,type\n"
    f"{ROOTS['pre']},{ROOTS['post']},52,142,70,2\n",
}


def read(text: str) -> pd.DataFrame:
    return pd.read_csv(io.StringIO(text))


@pytest.mark.parametrize("form", FORMS)
def test_every_form_is_recognised_and_keeps_its_ids_exactly(form):
    table = read(TABLES[form])
    assert recognise(table) == form
    standard = standard_synapse_table(table)
    unit = FORMS[form].unit_nm
    columns = POSITIONS["vx" if unit is None else "nm"]
    assert list(standard.columns[:6]) == ["id", "pre_root_id", "post_root_id", *columns]
    assert standard["id"].tolist() == [1 if FORMS[form].id is None else LARGE]
    assert (standard["pre_root_id"].tolist(), standard["post_root_id"].tolist()) == ([ROOTS["pre"]], [ROOTS["post"]])
    assert standard[columns].to_numpy().tolist() == [
        [52 * (unit or [1])[0], 142 * (unit or [1])[0], 70 * (unit or [1])[0]]
    ]


def test_further_columns_and_both_points_are_kept():
    standard = standard_synapse_table(read(TABLES["cave_two_points"]), unit_nm=(4, 4, 40))
    assert standard[["cleft_score", "gaba"]].to_numpy().tolist() == [[120.0, 0.2]]
    assert standard[[f"pre_pos_{axis}_nm" for axis in "xyz"]].to_numpy().tolist() == [[200, 560, 2800]]
    assert standard[[f"post_pos_{axis}_nm" for axis in "xyz"]].to_numpy().tolist() == [[216, 576, 2800]]
    assert "pre_pt_position" not in standard


@pytest.mark.parametrize(
    "position",
    [
        "[52 142 70]",
        "[52, 142, 70]",
        "(52.0, 142.0, 7e1)",
        "52;142;70",
        " [  52  142 70 ] ",
        "[np.int64(52), np.int64(142), np.float64(70.0)]",  # a list that pandas has written into a CSV
        [52, 142, 70],
        np.array([52, 142, 70]),
    ],
)
def test_positions_are_read_from_lists_arrays_and_texts(position):
    table = read(TABLES["cave"]).assign(ctr_pt_position=pd.Series([position], dtype=object))
    assert standard_synapse_table(table)[POSITIONS["vx"]].to_numpy().tolist() == [[52, 142, 70]]


@pytest.mark.parametrize("position", ["[52 142]", "[52 142 nan]", "", None, [52, 142], "52 142 70 1"])
def test_an_unreadable_position_names_the_synapse(position):
    table = read(TABLES["cave"]).assign(ctr_pt_position=pd.Series([position], dtype=object))
    with pytest.raises(TableError, match=f"no position in ctr_pt_position for synapse {LARGE}"):
        standard_synapse_table(table)


def test_split_columns_of_cave_do_as_well():
    table = (
        read(TABLES["cave"])
        .drop(columns="ctr_pt_position")
        .assign(ctr_pt_position_x=52, ctr_pt_position_y=142, ctr_pt_position_z=70)
    )
    assert standard_synapse_table(table)[POSITIONS["vx"]].to_numpy().tolist() == [[52, 142, 70]]


def test_the_resolution_that_cave_leaves_in_the_table_is_its_unit_unless_told():
    table = read(TABLES["cave"])
    table.attrs["dataframe_resolution"] = [4, 4, 40]
    assert standard_synapse_table(table)[POSITIONS["nm"]].to_numpy().tolist() == [[208, 568, 2800]]
    assert standard_synapse_table(table, unit_nm=(1, 1, 1))[POSITIONS["nm"]].to_numpy().tolist() == [[52, 142, 70]]


def test_rows_that_are_not_valid_are_left_out_and_counted(caplog):
    table = pd.concat([read(TABLES["cave"])] * 3, ignore_index=True).assign(id=[1, 2, 3], valid=[True, False, True])
    with caplog.at_level(logging.WARNING):
        assert standard_synapse_table(table)["id"].tolist() == [1, 3]
    assert "1 rows of the synapse table are marked as not valid" in caplog.text
    with pytest.raises(TableError, match="has valid maybe; expected true or false"):
        standard_synapse_table(table.assign(valid="maybe"))


def three_partners(form: str) -> pd.DataFrame:
    """Two presynaptic sites: one with two partners, one with a single one between them."""
    table = pd.concat([read(TABLES[form])] * 3, ignore_index=True)
    post = FORMS[form].post
    return table.assign(**{post: [1, 2, 3]})


def test_polyadic_synapses_are_one_row_a_pair_or_one_a_presynaptic_site():
    table = three_partners("neuprint").assign(x_pre=[50, 60, 50])
    assert standard_synapse_table(table)["post_root_id"].tolist() == [1, 2, 3]
    sites = standard_synapse_table(table, polyadic="connectors")
    assert sites["id"].tolist() == [1, 2]
    assert sites["post_root_id"].tolist() == [1, 2]
    assert sites["n_partners"].tolist() == [2, 1]
    assert sites["partner_root_ids"].tolist() == ["1 3", "2"]
    by_key = standard_synapse_table(three_partners("sjcabs").assign(connector_id=[7, 8, 7]), polyadic="connectors")
    assert by_key["partner_root_ids"].tolist() == ["1 3", "2"]
    with pytest.raises(TableError, match="lacks the column connector_id"):
        standard_synapse_table(three_partners("cave"), polyadic="connectors")


def test_wrong_forms_are_errors_that_say_what_is_known():
    with pytest.raises(TableError, match="in no known form; it has a, b"):
        standard_synapse_table(pd.DataFrame({"a": [1], "b": [2]}))
    with pytest.raises(TableError, match="no form 'flywire' of synapse tables"):
        standard_synapse_table(read(TABLES["cave"]), "flywire")
    with pytest.raises(TableError, match="read as a neuPrint table, lacks the columns bodyId_pre, bodyId_post"):
        standard_synapse_table(read(TABLES["cave"]), "neuprint")


def test_an_id_that_went_through_a_float_is_an_error():
    table = read(TABLES["cave"])
    with pytest.raises(TableError, match="pre_pt_root_id holds"):
        standard_synapse_table(table.assign(pre_pt_root_id=table["pre_pt_root_id"].astype("float64")))
