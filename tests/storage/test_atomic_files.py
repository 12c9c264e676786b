"""Files and folders are written whole or not at all."""

import errno
import json
import logging
import multiprocessing
import os
import shutil
import stat
import time

import pytest

from synapseclr.errors import OutputError
from synapseclr.storage import atomic_files
from synapseclr.storage.atomic_files import (
    MANIFEST,
    check_file,
    check_folder,
    folder_written_whole,
    pipeline_at_work,
    read_json_object,
    remove_leftovers,
    settle_folder,
    update_json,
    write_whole,
    written_whole,
)

SMALL = [b"a,b\n1,2\n", b"a,b\n1,2\n3,4\n5,6\n"]


def killed(action, module_function: str, call: int = 1):
    """Run an action in another process, which dies when it calls a function of the os module for the n-th time."""
    child = os.fork()
    if child == 0:
        calls, original = [], getattr(os, module_function)

        def die(*arguments, **options):
            calls.append(arguments)
            if len(calls) == call:
                os._exit(9)
            return original(*arguments, **options)

        setattr(os, module_function, die)
        try:
            action()
        finally:
            os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9


def write_folder(target, content: bytes) -> None:
    with folder_written_whole(target) as partial:
        (partial / "c").mkdir(parents=True)
        (partial / "zarr.json").write_bytes(b"{}")
        (partial / "c" / "0").write_bytes(content)


@pytest.mark.parametrize("function", ["fsync", "replace"])
@pytest.mark.parametrize("call", [1, 2])
def test_a_kill_while_a_file_is_written_leaves_the_old_or_the_new_one(tmp_path, function, call):
    path = tmp_path / "t.csv"
    write_whole(path, SMALL[0])
    assert killed(lambda: write_whole(path, SMALL[1]), function, call)
    check_file(path)
    assert path.read_bytes() in SMALL
    remove_leftovers(tmp_path)
    assert {p.name for p in tmp_path.iterdir()} == {"t.csv", ".written"}
    assert {p.name for p in (tmp_path / ".written").iterdir()} == {"t.csv.json"}
    write_whole(path, SMALL[1])
    check_file(path)


@pytest.mark.parametrize(("function", "call"), [("fsync", 1), ("replace", 1), ("rename", 1), ("rename", 2)])
def test_a_kill_while_a_folder_is_replaced_leaves_the_old_or_the_new_one(tmp_path, function, call):
    target = tmp_path / "m.zarr"
    write_folder(target, b"old")
    assert killed(lambda: write_folder(target, b"new"), function, call)
    settle_folder(target)
    check_folder(target)
    assert (target / "c/0").read_bytes() == (b"new" if (function, call) == ("rename", 2) else b"old")
    remove_leftovers(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["m.zarr"]


def test_leftovers_are_settled_before_they_are_removed(tmp_path):
    write_folder(tmp_path / "m.zarr", b"old")
    assert killed(lambda: write_folder(tmp_path / "m.zarr", b"new"), "rename", 2)
    assert not (tmp_path / "m.zarr").exists()
    remove_leftovers(tmp_path)
    assert (tmp_path / "m.zarr/c/0").read_bytes() == b"new"


def test_what_is_being_written_is_no_leftover(tmp_path):
    with written_whole(tmp_path / "t.csv") as partial:
        partial.write_bytes(SMALL[0])
        remove_leftovers(tmp_path)
        assert partial.exists()
    other = tmp_path / f".t.csv.{partial.name.split('.')[3]}.{os.getppid()}.01234567.partial"  # of a process that runs
    other.write_bytes(b"")
    remove_leftovers(tmp_path)
    assert other.exists()


def test_leftovers_of_other_machines_go_after_a_day(tmp_path):
    young, old = (tmp_path / f".t.csv.elsewhere.1.0123456{n}.partial" for n in (1, 2))
    for path in (young, old):
        path.write_bytes(b"")
    os.utime(old, (0, 0))
    remove_leftovers(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == [young.name]


@pytest.mark.parametrize("jump_s", [-3600, 3600], ids=["back", "forwards"])
def test_a_clock_that_was_set_makes_no_file_in_the_making_a_leftover(tmp_path, monkeypatch, jump_s):
    path = tmp_path / ".t.csv.elsewhere.1.01234567.partial"
    path.write_bytes(b"")
    now = time.time() + jump_s
    monkeypatch.setattr("synapseclr.storage.atomic_files.time.time", lambda: now)
    remove_leftovers(tmp_path)
    assert path.exists()


def test_files_that_only_look_like_leftovers_stay(tmp_path):
    for name in (".hidden.partial", "a.partial", ".a.b.old", "x.old"):
        (tmp_path / name).write_bytes(b"")
    remove_leftovers(tmp_path)
    assert len(list(tmp_path.iterdir())) == 4


def test_an_old_folder_that_cannot_be_deleted_does_no_harm(tmp_path, monkeypatch, caplog):
    target = tmp_path / "m.zarr"
    write_folder(target, b"old")

    def refuse(path, **options):
        if str(path).endswith(".old"):
            raise PermissionError(errno.EACCES, "Permission denied")
        return shutil_rmtree(path, **options)

    shutil_rmtree = shutil.rmtree
    monkeypatch.setattr(atomic_files.shutil, "rmtree", refuse)
    write_folder(target, b"new")
    assert (target / "c/0").read_bytes() == b"new"
    assert "delete it by hand" in caplog.text
    monkeypatch.undo()
    remove_leftovers(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["m.zarr"]


def test_an_old_folder_that_cannot_be_moved_stays_as_it_was(tmp_path, monkeypatch):
    target = tmp_path / "m.zarr"
    write_folder(target, b"old")

    def refuse(source, destination):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(atomic_files.os, "rename", refuse)
    with pytest.raises(OutputError, match=r"m\.zarr cannot be written \(Permission denied\)\. What lay there"):
        write_folder(target, b"new")
    assert (target / "c/0").read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["m.zarr"]


def test_a_full_disk_leaves_the_old_file(tmp_path):
    write_whole(tmp_path / "t.csv", SMALL[0])

    def fill_the_disk():
        with written_whole(tmp_path / "t.csv") as partial:
            partial.write_bytes(b"a,")
            raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OutputError, match=r"t\.csv cannot be written \(No space left on device\)"):
        fill_the_disk()
    assert (tmp_path / "t.csv").read_bytes() == SMALL[0]
    assert {p.name for p in tmp_path.iterdir()} == {"t.csv", ".written"}


def test_a_write_protected_file_is_not_replaced(tmp_path, monkeypatch):
    path = tmp_path / "t.csv"
    path.write_bytes(SMALL[0])
    path.chmod(stat.S_IRUSR)
    monkeypatch.setattr(atomic_files.os, "access", lambda where, mode: bool(os.stat(where).st_mode & stat.S_IWUSR))
    with pytest.raises(OutputError, match=r"t\.csv cannot be written \(it is write-protected\)"):
        write_whole(path, SMALL[1])
    assert path.read_bytes() == SMALL[0]


def test_an_output_behind_a_link_is_replaced_where_it_lies(tmp_path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "disk/t.csv").write_bytes(SMALL[0])
    (tmp_path / "t.csv").symlink_to("disk/t.csv")
    write_whole(tmp_path / "t.csv", SMALL[1])
    assert (tmp_path / "t.csv").is_symlink()
    assert (tmp_path / "disk/t.csv").read_bytes() == SMALL[1]


@pytest.mark.parametrize("kept", [0, 4, 8], ids=["empty", "at a line's end", "one line less"])
def test_a_file_that_is_cut_short_is_an_error(tmp_path, kept):
    token = pipeline_at_work.set("imputation")
    write_whole(tmp_path / "t.csv", SMALL[1])
    pipeline_at_work.reset(token)
    (tmp_path / "t.csv").write_bytes(SMALL[1][:kept])
    with pytest.raises(
        OutputError,
        match=rf"t\.csv is cut short: it has {kept} of the 16 bytes .* `kedro run --pipeline=imputation` again",
    ):
        check_file(tmp_path / "t.csv")


def test_a_file_that_was_changed_on_purpose_is_taken_when_its_record_is_deleted(tmp_path):
    path = tmp_path / "t.csv"
    write_whole(path, SMALL[1])
    path.write_bytes(SMALL[1].replace(b"4", b"7"))
    with pytest.raises(OutputError, match=r"has changed .* on purpose, delete .*\.written/t\.csv\.json"):
        check_file(path)
    (tmp_path / ".written/t.csv.json").unlink()
    check_file(path)


def test_a_damaged_record_stops_nothing(tmp_path):
    write_whole(tmp_path / "t.csv", SMALL[1])
    for content in (b"", b"[" * 100_000, b"[]", b'{"versions": []}', b'{"versions": [3]}', b'{"versions": 3}'):
        (tmp_path / ".written/t.csv.json").write_bytes(content)
        check_file(tmp_path / "t.csv")
    write_whole(tmp_path / "t.csv", SMALL[0])
    check_file(tmp_path / "t.csv")


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda folder: (folder / "c/0").unlink(), "has lost its file c/0"),
        (lambda folder: (folder / "c/0").write_bytes(b"ol"), "c/0 is cut short, to 2 of 3 bytes"),
        (lambda folder: (folder / "c/0").write_bytes(b"odl"), "c/0 has changed"),
        (lambda folder: (folder / MANIFEST).write_bytes(b"{"), "is damaged"),
    ],
)
def test_a_damaged_folder_is_an_error(tmp_path, damage, says):
    write_folder(tmp_path / "m.zarr", b"old")
    damage(tmp_path / "m.zarr")
    with pytest.raises(OutputError, match=says):
        check_folder(tmp_path / "m.zarr")


def test_the_manifest_lists_every_other_file(tmp_path):
    write_folder(tmp_path / "m.zarr", b"old")
    files = json.loads((tmp_path / "m.zarr" / MANIFEST).read_bytes())["files"]
    assert sorted(files) == ["c/0", "zarr.json"]


def test_runs_that_write_and_read_the_same_file_at_once_find_it_whole(tmp_path):
    contents = [b"%d\n" % number * 50 for number in range(8)]
    write_whole(tmp_path / "t.csv", contents[0])

    def write(content):
        child = os.fork()
        if child == 0:
            try:
                for _ in range(10):
                    write_whole(tmp_path / "t.csv", content)
                    check_file(tmp_path / "t.csv")
            except BaseException:
                os._exit(1)
            os._exit(0)
        return child

    children = [write(content) for content in contents[:4]]
    assert [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children] == [0] * 4
    check_file(tmp_path / "t.csv")
    assert {path.name for path in tmp_path.iterdir()} == {"t.csv", ".written"}


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
