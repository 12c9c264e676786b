"""A table that stays in its file gives the columns, scores and complaints of the same table in memory."""

import numpy as np
import pandas as pd
import pytest
from kedro.io import DatasetError

from synapseclr.analysis.handcrafted import MASK_STATISTIC_NAMES, MASK_STATISTICS
from synapseclr.analysis.representations import statistic_scores, statistics_of
from synapseclr.datasets import ParquetDataset
from synapseclr.errors import SynapseCLRError, TableError
from synapseclr.storage.stored_table import StoredTable

ANONYMOUS = {"token": "anon"}
IDS = np.arange(8) * 3 + 2**60


@pytest.fixture
def statistics():
    rng = np.random.default_rng(0)
    table = pd.DataFrame(rng.random((8, len(MASK_STATISTIC_NAMES)), np.float32), columns=list(MASK_STATISTIC_NAMES))
    return table.assign(synapse_id=IDS)[["synapse_id", *MASK_STATISTIC_NAMES]]


def _stored(table, folder, **options):
    ParquetDataset(filepath=f"{folder}/t.parquet", **options).save(table)
    return ParquetDataset(filepath=f"{folder}/t.parquet", in_memory=False, **options).load()


def test_columns_are_those_of_the_table(statistics, tmp_path):
    found = _stored(statistics, tmp_path)
    assert isinstance(found, StoredTable)
    assert (len(found), found.empty, found.columns) == (8, False, list(statistics.columns))
    names = ["synapse_id", MASK_STATISTIC_NAMES[2]]
    pd.testing.assert_frame_equal(found[names], statistics[names])
    pd.testing.assert_series_equal(found["synapse_id"], statistics["synapse_id"])
    with pytest.raises(KeyError, match=r"t\.parquet has no column 'absent'"):
        found["absent"]


def test_a_table_in_a_bucket_stays_there(statistics, gcs_prefix):
    found = _stored(statistics, gcs_prefix, credentials=ANONYMOUS)
    pd.testing.assert_series_equal(found["synapse_id"], statistics["synapse_id"])


def test_only_large_files_stay_where_they_are(statistics, tmp_path, monkeypatch):
    dataset = ParquetDataset(filepath=f"{tmp_path}/t.parquet", in_memory="auto")
    dataset.save(statistics)
    pd.testing.assert_frame_equal(dataset.load(), statistics)
    monkeypatch.setattr("synapseclr.datasets.files.STORED_FROM_BYTES", 100)
    assert isinstance(dataset.load(), StoredTable)
    (tmp_path / "t.parquet").write_bytes(b"PAR1")
    with pytest.raises(DatasetError, match=r"t\.parquet is cut short"):
        dataset.load()
    with pytest.raises(DatasetError, match="in_memory is 'no'; it must be true, false or auto"):
        ParquetDataset(filepath="t.parquet", in_memory="no")


@pytest.mark.parametrize("order", [slice(None), slice(None, None, -1), [5, 0, 3]])
def test_statistics_and_their_scores_are_those_of_the_table_in_memory(statistics, tmp_path, order):
    found, wanted = _stored(statistics, tmp_path), IDS[order]
    given = (MASK_STATISTIC_NAMES, wanted, "mask_statistics")
    values_nk = statistics[list(MASK_STATISTIC_NAMES)].to_numpy()[order]
    np.testing.assert_array_equal(statistics_of(found, *given), values_nk)
    scores_nk = statistic_scores(statistics, *given)
    np.testing.assert_array_equal(statistic_scores(found, *given), scores_nk)
    some = np.array([2, 0])
    np.testing.assert_array_equal(statistic_scores(found, *given, some), scores_nk[some])
    np.testing.assert_array_equal(np.argsort(scores_nk, axis=0), np.argsort(values_nk, axis=0))


def test_values_that_are_not_finite_are_counted(statistics, tmp_path):
    statistics.loc[[2, 5], MASK_STATISTIC_NAMES[1]] = np.inf
    statistics.loc[5, MASK_STATISTIC_NAMES[3]] = -np.inf
    with pytest.raises(SynapseCLRError, match="mask_statistics' are not finite for 2 of 8"):
        statistic_scores(_stored(statistics, tmp_path), MASK_STATISTIC_NAMES, IDS, "mask_statistics")


def test_rules_hold_in_the_file_as_in_memory(statistics, tmp_path):
    found = _stored(statistics, tmp_path)
    assert MASK_STATISTICS.validate(found) is found
    twice = statistics.assign(synapse_id=np.r_[IDS[:-1], IDS[0]])
    lacking = statistics.drop(
        columns=[name for name, column in MASK_STATISTICS.columns.items() if not column.optional][1]
    )
    wrong = statistics.copy()
    name = next(name for name, column in MASK_STATISTICS.columns.items() if column.rule)
    wrong.loc[3, name] = -1.0
    for table in (twice, lacking, wrong, statistics[:0]):
        with pytest.raises(TableError) as in_memory:
            MASK_STATISTICS.validate(table)
        with pytest.raises(TableError) as in_file:
            MASK_STATISTICS.validate(_stored(table, tmp_path))
        assert str(in_file.value) == str(in_memory.value)
    assert f"synapse {IDS[3]}" in _complaint(wrong)


def _complaint(table):
    with pytest.raises(TableError) as raised:
        MASK_STATISTICS.validate(table)
    return str(raised.value)
