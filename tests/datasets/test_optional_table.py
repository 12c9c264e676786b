"""A table that need not be there."""

import pandas as pd
import pytest
from kedro.io import DatasetError

from synapseclr.datasets import OptionalCSVDataset


def test_a_table_that_is_there_is_read(tmp_path):
    dataset = OptionalCSVDataset(filepath=str(tmp_path / "truth.csv"), save_args={"index": False})
    table = pd.DataFrame({"synapse_id": [1, 2**60 + 1], "defect": ["blackout", None]})
    dataset.save(table)
    pd.testing.assert_frame_equal(dataset.load(), table)


def test_a_missing_table_is_empty_and_a_broken_one_an_error(tmp_path):
    dataset = OptionalCSVDataset(filepath=str(tmp_path / "truth.csv"))
    assert dataset.load().empty
    (tmp_path / "truth.csv").write_text('synapse_id\n"unclosed')
    with pytest.raises(DatasetError):
        dataset.load()
