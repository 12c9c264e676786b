import json
from concurrent.futures import ThreadPoolExecutor

import pytest

from synapseclr.errors import TableError
from synapseclr.explorer.label_tables import LabelTables, checked_label

LARGE = 2**53 + 1


def test_a_label_is_a_table_with_its_provenance(tmp_path):
    tables = LabelTables(str(tmp_path / "labels"))
    name = tables.save([LARGE, 7], "  odd   shape ", {"chosen_by": "#lasso=1,2"})
    read = tables.read()
    assert read["synapse_id"].tolist() == [LARGE, 7]
    assert set(read["label"]) == {"odd shape"}
    record = json.loads((tmp_path / "labels" / name.replace(".csv", ".json")).read_text())
    assert record["n_synapses"] == 2
    assert record["chosen_by"] == "#lasso=1,2"
    assert not {"author", "user", "host"} & set(record)


def test_people_who_save_at_the_same_time_keep_all_their_tables(tmp_path):
    tables = LabelTables(str(tmp_path))
    with ThreadPoolExecutor(8) as pool:
        names = list(pool.map(lambda number: tables.save([number], "same", {}), range(16)))
    assert len(set(names)) == 16
    assert sorted(tables.read()["synapse_id"]) == list(range(16))


@pytest.mark.parametrize("label", ["../../etc/passwd", "<b>x</b>", "Ärger / \x00 CON", "日本語"])
def test_a_hostile_label_stays_in_its_folder_and_comes_back_as_written(tmp_path, label):
    tables = LabelTables(str(tmp_path / "labels"))
    name = tables.save([1], label, {})
    assert {path.name for path in tmp_path.iterdir()} == {"labels"}
    assert (tmp_path / "labels" / name).is_file()
    assert tables.read()["label"][0] == " ".join(label.replace("\x00", "").split())


@pytest.mark.parametrize(
    ("label", "said"),
    [("", "1 to 64"), (" \n ", "1 to 64"), ("x" * 65, "1 to 64"), ("=HYPERLINK(1)", "formula"), (7, "a text")],
)
def test_a_label_that_cannot_be_used_is_refused(label, said):
    with pytest.raises(TableError, match=said):
        checked_label(label)


def test_nothing_selected_is_refused(tmp_path):
    with pytest.raises(TableError, match="No synapse is selected"):
        LabelTables(str(tmp_path)).save([], "x", {})
    assert LabelTables(str(tmp_path)).read().empty


def test_labels_in_a_bucket_are_not_overwritten(gcs_prefix):
    tables = LabelTables(f"{gcs_prefix}/labels")
    names = {tables.save([number], "same", {}) for number in range(3)}
    assert len(names) == 3
    assert sorted(tables.read()["synapse_id"]) == [0, 1, 2]
