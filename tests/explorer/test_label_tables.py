import json
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from synapseclr.analysis.outliers import check_accepted_defects
from synapseclr.datasets import OptionalCSVDataset
from synapseclr.errors import TableError
from synapseclr.explorer.label_tables import LabelTables, accept_defects, checked_label, current_labels
from synapseclr.volumes.synapse_table import SynapseRows

LARGE = 2**53 + 1


def test_a_label_is_a_table_with_its_provenance(tmp_path):
    tables = LabelTables(str(tmp_path / "labels"))
    name = tables.save([LARGE, 7], "  odd   shape ", {"chosen_by": "#lasso=1,2"})
    read = tables.read().labels
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
    assert sorted(tables.read().labels["synapse_id"]) == list(range(16))


@pytest.mark.parametrize("label", ["../../etc/passwd", "<b>x</b>", "Ärger / \x00 CON", "日本語"])
def test_a_hostile_label_stays_in_its_folder_and_comes_back_as_written(tmp_path, label):
    tables = LabelTables(str(tmp_path / "labels"))
    name = tables.save([1], label, {})
    assert {path.name for path in tmp_path.iterdir()} == {"labels"}
    assert (tmp_path / "labels" / name).is_file()
    assert tables.read().labels["label"][0] == " ".join(label.replace("\x00", "").split())


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
    assert LabelTables(str(tmp_path)).read().labels.empty


def test_labels_in_a_bucket_are_not_overwritten(gcs_prefix):
    tables = LabelTables(f"{gcs_prefix}/labels")
    names = {tables.save([number], "same", {}) for number in range(3)}
    assert len(names) == 3
    assert sorted(tables.read().labels["synapse_id"]) == [0, 1, 2]


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.write_bytes(path.read_bytes()[:-4]),
        lambda path: path.write_bytes(path.read_bytes()[: path.read_bytes().rfind(b"\n", 0, -1) + 1]),
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(b"synapse_id,label\nx,y\n"),
        lambda path: path.with_suffix(".json").write_bytes(b"{"),
        lambda path: path.with_suffix(".json").write_bytes(b"[" * 100_000),
    ],
)
def test_a_damaged_table_hides_only_its_own_labels_and_is_named(tmp_path, damage):
    tables = LabelTables(str(tmp_path))
    names = [tables.save([number, 10 + number], "same", {}) for number in range(3)]
    damage(tmp_path / names[1])
    labels, damaged = tables.read()
    assert sorted(labels["synapse_id"]) == [0, 2, 10, 12]
    assert list(damaged) == [names[1]]


@pytest.mark.parametrize(
    ("content", "is_read"),
    [("synapse_id,label\n5,odd\n", True), ("id,label\n5,odd\n", False), ("synapse_id\n5\n", False), ("", False)],
)
def test_a_table_that_was_put_there_by_hand(tmp_path, content, is_read):
    tables = LabelTables(str(tmp_path))
    tables.save([1], "same", {})
    (tmp_path / "mine.csv").write_text(content)
    labels, damaged = tables.read()
    assert labels["synapse_id"].tolist() == ([1, 5] if is_read else [1])
    assert list(damaged) == ([] if is_read else ["mine.csv"])


def test_a_saving_is_taken_back_but_stays(tmp_path):
    tables = LabelTables(str(tmp_path))
    first = tables.save([1, 2], "odd", {})
    tables.save([2, 3], "defective", {})
    current = current_labels(tables.read().labels, SynapseRows(np.array([3, 5, 1, 2])))
    assert current["classes"] == ["odd", "defective"]
    assert dict(zip(current["rows"], current["codes"], strict=True)) == {2: 0, 3: 1, 0: 1}
    tables.withdraw(first)
    tables.withdraw(first)
    assert set(tables.read().labels["label"]) == {"defective"}
    assert (tmp_path / first).exists()
    for name in ("../x.csv", "absent.csv", "", 5):
        with pytest.raises(TableError):
            tables.withdraw(name)


def test_accepted_defects_are_added_where_the_pipelines_read_them(tmp_path):
    table = OptionalCSVDataset(filepath=str(tmp_path / "accepted_defects.csv"), save_args={"index": False})
    large = 2**53 + 1
    assert accept_defects(table, [large, 7, 7]) == 2
    assert accept_defects(table, [7, 9]) == 1
    assert check_accepted_defects(table.load())["synapse_id"].tolist() == [large, 7, 9]
