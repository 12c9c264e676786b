import json
import logging

import fsspec
import pytest

from synapseclr.datasets import LedgerDataset


def test_entries_add_up_over_runs(tmp_path):
    path = str(tmp_path / "08_reporting/seconds.json")
    assert LedgerDataset(filepath=path).load() == {}
    LedgerDataset(filepath=path).save({"simulation": 3.5, "embedding": 99.0})
    LedgerDataset(filepath=path).save({"embedding": 1.0})
    assert LedgerDataset(filepath=path).load() == {"simulation": 3.5, "embedding": 1.0}


def test_a_damaged_file_ends_no_run(tmp_path):
    path = tmp_path / "seconds.json"
    path.write_text('{"simulation": 3.')
    ledger = LedgerDataset(filepath=str(path))
    assert ledger.load() == {}
    ledger.save({"embedding": 1.0})
    assert json.loads(path.read_text()) == {"embedding": 1.0}


def test_a_place_that_cannot_be_written_costs_one_warning(tmp_path, caplog):
    (tmp_path / "file").write_text("")
    ledger = LedgerDataset(filepath=str(tmp_path / "file/seconds.json"))
    with caplog.at_level(logging.WARNING):
        ledger.save({"a": 1})
        ledger.save({"b": 1})
    assert caplog.text.count("could not be written") == 1
    assert ledger.load() == {}


def test_a_bucket_keeps_entries_and_its_faults_end_no_run(monkeypatch):
    ledger = LedgerDataset(filepath="memory://ledger/seconds.json")
    ledger.save({"a": 1})
    ledger.save({"b": 2})
    assert ledger.load() == {"a": 1, "b": 2}

    def refuse(*_, **__):
        raise ConnectionError("the bucket does not answer")

    monkeypatch.setattr(fsspec.filesystem("memory"), "cat_file", refuse)
    monkeypatch.setattr(fsspec.filesystem("memory"), "pipe_file", refuse)
    ledger.save({"c": 3})
    assert ledger.load() == {}


@pytest.mark.parametrize(("url", "is_local"), [("memory://a/b.json", False), ("a/b.json", True)])
def test_only_a_local_file_has_a_local_path(url, is_local):
    assert (LedgerDataset(filepath=url).local_path is not None) == is_local
