import h5py
import numpy as np
import pandas as pd
import pytest
from kedro.io import DatasetError

from synapseclr.datasets import SynapseTableDataset

PRE, POST, LARGE = 648518346349500011, 648518346349500006, 2**53 + 1
POSITIONS = [f"ctr_pos_{axis}_nm" for axis in "xyz"]


@pytest.fixture
def table():
    return pd.DataFrame(
        {
            "id": [LARGE, 5],
            "pre_pt_root_id": [PRE, PRE],
            "post_pt_root_id": [POST, 7],
            "ctr_pt_position": [[52, 142, 70], [1, 2, 3]],
            "size": [120, 80],
        }
    )


def write(table, path):
    if path.suffix == ".parquet":
        table.to_parquet(path)
    elif path.suffix == ".feather":
        table.to_feather(path)
    else:
        table.to_csv(path, index=False, sep={".tsv": "\t", ".txt": ";"}.get(path.suffix, ","))


@pytest.mark.parametrize("name", ["t.csv", "t.tsv", "t.txt", "t.csv.gz", "t.parquet", "t.feather"])
def test_every_kind_of_file_gives_the_same_table(table, tmp_path, name):
    write(table, tmp_path / name)
    loaded = SynapseTableDataset(filepath=str(tmp_path / name), unit_nm=(4, 4, 40)).load()
    assert loaded["id"].tolist() == [LARGE, 5]
    assert loaded["pre_root_id"].tolist() == [PRE, PRE]
    assert loaded["post_root_id"].tolist() == [POST, 7]
    assert loaded[POSITIONS].to_numpy().tolist() == [[208, 568, 2800], [4, 8, 120]]
    assert loaded["size"].tolist() == [120, 80]


def test_the_file_is_named_where_its_table_is_in_no_known_form(tmp_path):
    (tmp_path / "t.csv").write_text("a,b\n1,2\n")
    with pytest.raises(DatasetError, match=r"t\.csv: The synapse table is in no known form; it has a, b"):
        SynapseTableDataset(filepath=str(tmp_path / "t.csv")).load()
    (tmp_path / "t.xlsx").write_text("")
    with pytest.raises(DatasetError, match=r"files of kind '\.xlsx' are not read"):
        SynapseTableDataset(filepath=str(tmp_path / "t.xlsx")).load()


@pytest.fixture
def cremi(tmp_path):
    """Two pairs that share their presynaptic point; labels are cut out of the volume at (z, y, x) = (40, 8, 4) nm."""
    path = tmp_path / "sample.hdf"
    labels_zyx = np.zeros((4, 6, 8), np.uint64)
    labels_zyx[1, 2, 3], labels_zyx[1, 2, 5], labels_zyx[2, 4, 6] = 2**63 + 1, 20, 30
    with h5py.File(path, "w") as file:
        labels = file.create_dataset("volumes/labels/neuron_ids", data=labels_zyx)
        labels.attrs["resolution"], labels.attrs["offset"] = (40.0, 4.0, 4.0), (40.0, 8.0, 4.0)
        notes = file.create_group("annotations")
        notes.attrs["offset"] = (40.0, 8.0, 4.0)
        notes["ids"] = np.array([100, 101, 102])
        notes["locations"] = np.array([[40.0, 8.0, 12.0], [41.0, 9.0, 21.0], [80.0, 16.0, 24.0]])
        notes["presynaptic_site/partners"] = np.array([[100, 101], [100, 102]])
    return path


def test_cremi_pairs_take_their_neurites_from_the_labels(cremi):
    loaded = SynapseTableDataset(filepath=str(cremi)).load()
    assert loaded["pre_root_id"].tolist() == [2**63 + 1] * 2
    assert loaded["post_root_id"].tolist() == [20, 30]
    np.testing.assert_array_equal(loaded[POSITIONS], [[20.5, 16.5, 80.5], [22, 20, 100]])
    sites = SynapseTableDataset(filepath=str(cremi), polyadic="connectors").load()
    assert sites["partner_root_ids"].tolist() == ["20 30"]


def test_a_cremi_file_without_synapses_says_what_it_lacks(cremi):
    with h5py.File(cremi, "a") as file:
        del file["annotations/presynaptic_site"]
    with pytest.raises(DatasetError, match="it lacks annotations/presynaptic_site/partners"):
        SynapseTableDataset(filepath=str(cremi)).load()
