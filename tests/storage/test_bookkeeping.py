import json
import logging
import multiprocessing

import pytest

from synapseclr.storage.bookkeeping import read_json_object, update_json


@pytest.mark.parametrize("content", [b"", b'{"a": 1', b"[1]", b"\xff\xfe", b"[" * 100_000, b"null"])
def test_a_damaged_file_is_begun_anew_with_a_warning(tmp_path, caplog, content):
    path = tmp_path / "seconds.json"
    path.write_bytes(content)
    with caplog.at_level(logging.WARNING):
        assert read_json_object(path) == {}
    assert f"{path} is damaged" in caplog.text
    assert update_json(path, {"b": 2}) == {"b": 2}
    assert json.loads(path.read_text()) == {"b": 2}


def _count(path, name, n):
    for value in range(n):
        update_json(path, {f"{name}-{value}": value})


def test_processes_that_change_a_file_at_once_lose_nothing(tmp_path):
    path = tmp_path / "seconds.json"
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=_count, args=(path, name, 25)) for name in "abc"]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert len(json.loads(path.read_text())) == 75
